"""Tests of the lessons in the app."""
