"""How the report calls the error types, and what it says about them."""

from .matching import BACKGROUND, BOTH, CLASSIFICATION, DUPLICATE, LOCALIZATION, MISSED

ERROR_TITLES = {
    CLASSIFICATION: "Classification",
    LOCALIZATION: "Localization",
    BOTH: "Both",
    DUPLICATE: "Duplicate",
    BACKGROUND: "Background",
    MISSED: "Missed",
}

# In a sentence: "lost to ...".
ERROR_CAUSES = {
    CLASSIFICATION: "wrong classes",
    LOCALIZATION: "inaccurate boxes",
    BOTH: "detections with a wrong class and an inaccurate box",
    DUPLICATE: "duplicates",
    BACKGROUND: "detections of background",
    MISSED: "missed objects",
}

ERROR_MEANINGS = {
    CLASSIFICATION: "IoU of at least 0.5 with an object of another class",
    LOCALIZATION: "the right class, but an IoU between 0.1 and 0.5",
    BOTH: "another class, and an IoU between 0.1 and 0.5",
    DUPLICATE: "a second detection of an object that a better one has found",
    BACKGROUND: "no object with an IoU above 0.1",
    MISSED: "objects that no detection found, not even with the wrong class or box",
}
