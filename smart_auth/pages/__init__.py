"""The pages that people see while they sign in, choose a patient, allow an app, and look after their apps and sessions.

They are plain forms: no script, readable without a style sheet, each bound to its browser and its authorization request.
"""
