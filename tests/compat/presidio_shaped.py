"""Runs where Presidio is installed: what its pattern recognizers make of our bodies.

No model is downloaded: a blank pipeline of spaCy finds no names of people, and what has
a form is found all the same.
"""

import json
import sys
from pathlib import Path

import spacy  # type: ignore[import-not-found]
from presidio_analyzer import (  # type: ignore[import-not-found]
    AnalyzerEngine,
    RecognizerRegistry,
)
from presidio_analyzer.nlp_engine import (  # type: ignore[import-not-found]
    NlpEngineProvider,
)

from auditlog.capture.redaction.choke import ChokePoint
from auditlog.capture.redaction.presidio import PresidioRedactor
from auditlog.capture.redaction.rules import parse_rules
from auditlog.core.errors import ConfigurationError

ENTITIES = ["EMAIL_ADDRESS", "CREDIT_CARD", "PHONE_NUMBER", "IBAN_CODE"]


def analyzer(directory: Path) -> AnalyzerEngine:
    """Return an analyzer with a blank pipeline, kept in `directory`."""
    spacy.blank("en").to_disk(directory)
    models = [{"lang_code": "en", "model_name": str(directory)}]
    provider = NlpEngineProvider(
        nlp_configuration={"nlp_engine_name": "spacy", "models": models}
    )
    engine = provider.create_engine()
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
    return AnalyzerEngine(registry=registry, nlp_engine=engine)


def refused(**options: object) -> str:
    """Return with what words these options are refused."""
    try:
        PresidioRedactor(**options)  # type: ignore[arg-type]
    except ConfigurationError as error:
        return str(error)
    return ""


def main() -> None:
    """Redact what stands in a file, and print what is left."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    engine = analyzer(Path(sys.argv[2]))
    redactor = PresidioRedactor(analyzer=engine, entities=ENTITIES, threshold=0.3)
    point = ChokePoint(parse_rules(redactors=[redactor]))
    bodies = []
    for media_type, text in asked:
        after = point.body("response", text.encode(), media_type, framed=False)
        bodies.append(None if after is None else after.decode())
    said = {
        "bodies": bodies,
        "unknown": refused(analyzer=engine, entities=["NOBODY"]),
        "language": refused(analyzer=engine, language="de"),
        "model": refused(),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
