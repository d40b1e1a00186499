"""The public page, the privacy notice and the record of processing, from one model."""
