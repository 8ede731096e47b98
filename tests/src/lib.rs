//! The tests that look at more than one crate. They are in `tests/it`, one file per subject; those
//! marked `ignore` need root and a machine prepared by `cargo xtask ci`, which runs them all.
