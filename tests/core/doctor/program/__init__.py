"""Tests of programs in every form that the doctor takes."""
