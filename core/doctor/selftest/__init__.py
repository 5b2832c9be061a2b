"""Tests of the doctor itself: every fault in every reference model, and models without one."""
