"""The bodies of KServe's V1 protocol: images as instances, and the parameters of the other calls.

Knows no image format and no model.
"""

from typing import Any

from service.api.image_body import ENCODED, describe_object, describe_options
from service.api.operations import CONTENT_ENCODING, JsonObject, make_example_image
from service.errors import ApiError, BadRequest, excerpt
from service.http.body import Body
from service.http.form import JSON_TYPE, Form, add_parameter, decode_base64_image
from service.http.json_body import parse_json_object
from service.parameters import MAX_BATCH_IMAGES, PredictOptions

EXAMPLE = '{"instances": [{"image": {"b64": "<base64>"}}]}'
INSTANCES, IMAGE, BASE64 = "instances", "image", "b64"
MODEL = "model"


def read_instances(body: Body, model: str, max_image_bytes: int) -> Form:
    """Read the images of a request to `model`. An unreadable image is an error of its own.

    Raises:
        BadRequest: The body is no JSON object with a list of 1 to 64 instances.
        PayloadTooLarge: The JSON has too much besides its images.
    """
    values = parse_json_object(body, EXAMPLE)
    if MODEL in values:
        raise BadRequest(f"The path names the model: leave '{MODEL}' out of the body.")
    instances = values.pop(INSTANCES, None)
    if not isinstance(instances, list) or not 1 <= len(instances) <= MAX_BATCH_IMAGES:
        raise BadRequest(
            f"'{INSTANCES}' must be a list of 1 to {MAX_BATCH_IMAGES} images, as in {EXAMPLE}."
        )
    form = Form([_read_instance(instance, max_image_bytes) for instance in instances])
    for name, value in {MODEL: model, **values}.items():
        add_parameter(form, name, value)
    return form


def _read_instance(instance: object, max_image_bytes: int) -> bytes | ApiError:
    if isinstance(instance, dict) and [*instance] == [IMAGE]:
        image = instance[IMAGE]
        if isinstance(image, dict) and [*image] == [BASE64]:
            return decode_base64_image(image[BASE64], max_image_bytes)
    return BadRequest(
        f"An instance must be an object like those in {EXAMPLE}, got {excerpt(repr(instance))}."
    )


class InstancesBody:
    """The OpenAPI description of a body with instances, and the parameters that `options` has."""

    schemas: tuple[Any, ...] = ()

    def __init__(self, options: type[PredictOptions]) -> None:
        self._options = options

    def describe_parameters(self) -> list[JsonObject]:
        """Return the header."""
        return [CONTENT_ENCODING]

    def describe_content(self) -> JsonObject:
        """Return the schema of the body by media type."""
        image = describe_object({BASE64: ENCODED}, {})
        instances = {
            "type": "array",
            "items": describe_object({IMAGE: image}, {}),
            "minItems": 1,
            "maxItems": MAX_BATCH_IMAGES,
        }
        options = {
            name: schema
            for name, schema in describe_options(self._options).items()
            if name != MODEL
        }
        schema = describe_object({INSTANCES: instances}, options)
        example = {INSTANCES: [{IMAGE: {BASE64: make_example_image()}}]}
        return {JSON_TYPE: {"schema": schema, "example": example}}
