(() => {
  // Only a dialog can be used while it is open.
  const all = (selector) =>
    [...(document.querySelector("dialog[open]") ?? document.body).querySelectorAll(selector)].filter(
      (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest(".unseen"),
    );
  const findControls = () =>
    all("button, a, select, textarea, summary, input, .button, .switch label").filter(({ disabled }) => !disabled);
  const name = (element) => element.outerHTML.slice(0, 90);
  const getBox = (element) => element.getBoundingClientRect();

  function findOutside() {
    const width = document.documentElement.clientWidth;
    return all("*")
      .filter((element) => getBox(element).right > width + 0.5 || getBox(element).left < -0.5)
      .map((element) => `outside of the window: ${name(element)}`);
  }

  function findCutOff() {
    return all("button, a, summary, .button, .switch label, h1, h2, p, dt, dd, output")
      .filter((element) => {
        const { display, overflowX } = getComputedStyle(element);
        return display !== "inline" && overflowX !== "auto" && element.scrollWidth > element.clientWidth + 1;
      })
      .map((element) => `cut off: ${name(element)}`);
  }

  function findOverlaps() {
    const controls = findControls().filter((control) => !control.matches(".zoom *, .switch input"));
    return controls.flatMap((one, i) =>
      controls
        .slice(i + 1)
        .filter((other) => {
          const [a, b] = [getBox(one), getBox(other)];
          const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
          const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
          return across > 1 && down > 1 && !one.contains(other) && !other.contains(one);
        })
        .map((other) => `overlap: ${name(one)} and ${name(other)}`),
    );
  }

  /** The share of light, 0..1, of colours laid over each other. */
  function makeLightMeter() {
    const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    return (colours) => {
      for (const colour of ["Canvas", ...colours]) {
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
      }
      const [red, green, blue] = Array.from(context.getImageData(0, 0, 1, 1).data, (level) => (level / 255) ** 2.2);
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
  }

  function findUnreadable() {
    const measure = makeLightMeter();
    const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    return all("*")
      .filter((element) => hasText(element) && !element.matches(":disabled, option, .zoom *, .busy-text"))
      .flatMap((element) => {
        const grounds = [];
        for (let part = element; part; part = part.parentElement) grounds.unshift(getComputedStyle(part).backgroundColor);
        const lights = [measure(grounds), measure([...grounds, getComputedStyle(element).color])];
        const contrast = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
        return contrast < 4.5 ? [`${contrast.toFixed(1)}:1 ${name(element)}`] : [];
      });
  }

  /** Focuses each control after it was scrolled to the upper edge, where the picture stays. */
  function findCovered() {
    return findControls()
      .filter((control) => !control.matches("label"))
      .flatMap((control) => {
        scrollTo(0, scrollY + getBox(control).top - 20);
        control.focus();
        const { left, top, width, height } = getBox(control);
        const hit = document.elementFromPoint(left + width / 2, top + height / 2);
        const isSeen = control.contains(hit) || control.closest("label")?.contains(hit);
        return isSeen ? [] : [`${name(control)} under ${hit ? name(hit) : "the edge of the window"}`];
      });
  }

  return {
    findLayoutFaults: () => [...findOutside(), ...findCutOff(), ...findOverlaps()],
    findUnreadable,
    findCovered,
  };
})()
