/* A light HTTP/1.1 load client: one thread, epoll, keep-alive. It shares the cores with the server
 * under test, so it must cost next to nothing.
 *
 *   client PORT CONNECTIONS SECONDS WARMUP RATE POISSON < requests > figures.json
 *
 * Closed loop (RATE 0): each connection sends its next request when it has its answer. Open loop:
 * requests leave at RATE a second, evenly or as a Poisson process, whether or not answers have
 * come, and a latency counts from the time a request was meant to leave.
 *
 * Requests come on standard input, numbers as native 32-bit words: how many, then for each its
 * kind, its length, its bytes, and the length and bytes of what its answer must contain. They are
 * sent in turn. An answer counts if its status is 200 and it contains those bytes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define KINDS 8
#define MAX_CONNECTIONS 1024
#define BACKLOG (1 << 20)      /* requests of an open loop that can wait for a free connection */
#define GRACE_SECONDS 10.0     /* time to wait for answers after the end */

typedef struct { uint32_t kind, length, needle_length; char *bytes, *needle; } Request;
typedef struct {
  int fd, busy;
  double intended;
  Request *request;
  size_t sent, got, room, wanted; /* wanted: length of the complete answer, 0 while unknown */
  char *answer;
} Connection;

static Request *requests;
static uint32_t request_count, next_request;
static Connection connections[MAX_CONNECTIONS];
static int epoll, port, opened, limit;
static double started, measured_from, ends;
static double *latencies[KINDS];
static size_t counts[KINDS], rooms[KINDS];
static long errors, in_flight, finished;
static char first_fault[256];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what) { perror(what); exit(1); }

static uint32_t read_word(void) {
  uint32_t word;
  if (fread(&word, 4, 1, stdin) != 1) die("requests");
  return word;
}

static char *read_bytes(uint32_t length) {
  char *bytes = malloc(length + 1);
  if (!bytes || (length && fread(bytes, length, 1, stdin) != 1)) die("requests");
  return bytes;
}

static void open_connection(Connection *c) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  int one = 1;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
  epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
}

static void note_fault(const char *what, const char *detail, size_t length) {
  errors++;
  if (!first_fault[0]) snprintf(first_fault, sizeof first_fault, "%s: %.*s", what, (int)(length < 160 ? length : 160), detail);
}

static void finish(Connection *c, int fine) {
  double at = now();
  c->busy = 0;
  in_flight--;
  finished++;
  if (c->intended < measured_from || c->intended >= ends) return;
  if (!fine) { note_fault("wrong answer", c->answer ? c->answer : "", c->got); return; }
  uint32_t kind = c->request->kind;
  if (counts[kind] == rooms[kind]) {
    rooms[kind] = rooms[kind] ? 2 * rooms[kind] : 4096;
    latencies[kind] = realloc(latencies[kind], rooms[kind] * sizeof(double));
    if (!latencies[kind]) die("memory");
  }
  latencies[kind][counts[kind]++] = at - c->intended;
}

static void push(Connection *c) {
  while (c->sent < c->request->length) {
    ssize_t n = send(c->fd, c->request->bytes + c->sent, c->request->length - c->sent, MSG_NOSIGNAL);
    if (n < 0) return; /* try later, or the reader finds the error */
    c->sent += n;
  }
}

static void start_request(Connection *c, double intended) {
  c->request = &requests[next_request++ % request_count];
  c->intended = intended;
  c->sent = c->got = c->wanted = 0;
  c->busy = 1;
  in_flight++;
  push(c);
}

/* Find the length of the complete answer once its headers are there. */
static size_t measure_answer(Connection *c) {
  char *head = memmem(c->answer, c->got, "\r\n\r\n", 4);
  if (!head) return 0;
  for (char *line = c->answer; line && line < head; line = memmem(line, head - line, "\r\n", 2)) {
    while (*line == '\r' || *line == '\n') line++;
    if (!strncasecmp(line, "content-length:", 15)) return head + 4 - c->answer + strtoul(line + 15, NULL, 10);
  }
  return head + 4 - c->answer;
}

/* Return 1 when the answer is complete. */
static int pull(Connection *c) {
  for (;;) {
    if (c->room - c->got < 65536) {
      c->room = c->room ? 2 * c->room : 131072;
      if (!(c->answer = realloc(c->answer, c->room))) die("memory");
    }
    ssize_t n = recv(c->fd, c->answer + c->got, c->room - c->got - 1, 0);
    if (n < 0) return 0;
    if (n == 0) { /* the server closed: an error only in the middle of a request */
      close(c->fd);
      if (c->busy) finish(c, 0);
      open_connection(c);
      return 0;
    }
    c->got += n;
    c->answer[c->got] = 0;
    if (!c->wanted) c->wanted = measure_answer(c);
    if (c->wanted && c->got >= c->wanted) return 1;
  }
}

static int is_right(Connection *c) {
  return c->got > 12 && !memcmp(c->answer + 9, "200", 3) &&
         memmem(c->answer, c->got, c->request->needle, c->request->needle_length);
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double quantile(double *sorted, size_t n, double q) {
  return n ? sorted[(size_t)fmin(n - 1, floor(q * n))] * 1000 : 0;
}

static void report(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  double cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
  for (char *p = first_fault; *p; p++) if (*p < ' ' || *p == '"' || *p == '\\' || *p > '~') *p = ' ';
  printf("{\"errors\": %ld, \"fault\": \"%s\", \"client_cpu\": %.6f, \"finished\": %ld, \"kinds\": {", errors, first_fault, cpu, finished);
  const char *comma = "";
  for (int kind = 0; kind < KINDS; kind++) {
    if (!counts[kind]) continue;
    double *sorted = latencies[kind];
    qsort(sorted, counts[kind], sizeof(double), by_size);
    printf("%s\"%d\": {\"answers\": %zu, \"p50\": %.4f, \"p95\": %.4f, \"p99\": %.4f}", comma, kind, counts[kind],
           quantile(sorted, counts[kind], 0.5), quantile(sorted, counts[kind], 0.95), quantile(sorted, counts[kind], 0.99));
    comma = ", ";
  }
  printf("}}\n");
}

int main(int argc, char **argv) {
  if (argc != 7) { fprintf(stderr, "usage: client PORT CONNECTIONS SECONDS WARMUP RATE POISSON\n"); return 2; }
  port = atoi(argv[1]);
  limit = atoi(argv[2]);
  double seconds = atof(argv[3]), warmup = atof(argv[4]), rate = atof(argv[5]);
  int poisson = atoi(argv[6]);
  if (limit < 1 || limit > MAX_CONNECTIONS) { fprintf(stderr, "1 to %d connections\n", MAX_CONNECTIONS); return 2; }
  request_count = read_word();
  requests = calloc(request_count, sizeof *requests);
  for (uint32_t i = 0; i < request_count; i++) {
    Request *r = &requests[i];
    r->kind = read_word() % KINDS;
    r->length = read_word();
    r->bytes = read_bytes(r->length);
    r->needle_length = read_word();
    r->needle = read_bytes(r->needle_length);
  }
  epoll = epoll_create1(0);
  static double backlog[BACKLOG];
  static Connection *idle[MAX_CONNECTIONS];
  size_t first = 0, last = 0;
  int idle_count = 0;
  started = now();
  measured_from = started + warmup;
  ends = measured_from + seconds;
  double next = started;
  srand48(1);
  for (; opened < (rate ? (limit < 16 ? limit : 16) : limit); opened++) {
    open_connection(&connections[opened]);
    if (rate) idle[idle_count++] = &connections[opened];
    else start_request(&connections[opened], now());
  }
  for (;;) {
    double at = now();
    int over = at >= ends;
    if (over && ((!in_flight && first == last) || at > ends + GRACE_SECONDS)) break;
    if (rate) {
      for (; next <= at && next < ends; next += (poisson ? -log1p(-drand48()) : 1.0) / rate) {
        if (last - first == BACKLOG) { errors++; continue; }
        backlog[last++ % BACKLOG] = next;
      }
      while (first < last && (idle_count || opened < limit)) {
        if (!idle_count) { open_connection(&connections[opened]); idle[idle_count++] = &connections[opened++]; }
        start_request(idle[--idle_count], backlog[first++ % BACKLOG]);
      }
    }
    double until = rate && next < ends ? next : ends + (over ? 0.05 : 0);
    double wait = until - now();
    struct timespec pause = {.tv_nsec = 0};
    if (wait > 0.05) wait = 0.05;
    if (wait > 0) pause.tv_nsec = (long)(wait * 1e9);
    if (over) pause.tv_nsec = 1000000;
    struct epoll_event events[256];
    int n = epoll_pwait2(epoll, events, 256, &pause, NULL);
    for (int i = 0; i < n; i++) {
      Connection *c = events[i].data.ptr;
      if (c->busy && (events[i].events & EPOLLOUT)) push(c);
      if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))) continue;
      int was_busy = c->busy;
      if (pull(c)) finish(c, is_right(c));
      if (!was_busy || c->busy) continue;
      if (rate) idle[idle_count++] = c;
      else if (now() < ends) start_request(c, now());
    }
  }
  errors += in_flight; /* never answered */
  report();
  return 0;
}
