"""`escrow definition schema`: the language of definitions as JSON Schema, for editors and for `docs/reference/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orchestrator.cli.output import print_json

if TYPE_CHECKING:
    from pydantic.json_schema import GenerateJsonSchema

#: The dialect that the schema is written in.
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def command() -> None:
    """Print the JSON Schema of definitions, by which editors complete and check them."""
    print_json(make())


def make() -> dict[str, Any]:
    """The schema: it takes the documents that the models of `saga.language` take, as far as a schema can say.

    What it cannot say: whether an expression compiles, whether a duration's sum is at most ten years, and that `1.0` is no integer. What
    lies beyond the shape of a document (names given twice, patience, pivots) is said by `escrow definition check` alone.
    """
    from orchestrator.saga.document import Document

    schema = Document.model_json_schema(schema_generator=_generator())
    return {"$schema": DIALECT, **_tidy(schema), "title": "Escrow definition"}


def _generator() -> type[GenerateJsonSchema]:
    """The library's own, without titles that repeat the key, without defaults that say nothing, with maps closed."""
    from pydantic.json_schema import GenerateJsonSchema

    class Generator(GenerateJsonSchema):
        def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (the signature is the library's)
            return False

        def dict_schema(self, schema: Any) -> dict[str, Any]:
            made = super().dict_schema(schema)
            return {**made, "additionalProperties": False} if "patternProperties" in made else made

        def default_schema(self, schema: Any) -> dict[str, Any]:
            made = super().default_schema(schema)
            if made.get("default") is None or isinstance(made["default"], dict):
                made.pop("default", None)
            return made

    return Generator


def _tidy(schema: Any) -> Any:
    """The same with each paragraph of a description on one line: docstrings are broken for readers of the code."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {key: _tidy(value) for key, value in schema.items()}
    if isinstance(text := tidied.get("description"), str):
        tidied["description"] = "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return tidied
