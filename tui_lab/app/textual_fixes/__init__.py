"""Workarounds for defects in Textual and Rich, one module a defect.

Each module says what fails, in which version, and why the workaround is what it is. A test of the same name in
tests/app/textual_fixes shows the defect in the plain library, as a strict xfail: it fails once the library is fixed,
and then the workaround can be deleted. Defects of one widget are combined in the class that the app uses:
`BaseScreen`, `BaseApp`, `KeyLine`.
"""
