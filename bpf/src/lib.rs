//! The kernel programs, their object and layouts
