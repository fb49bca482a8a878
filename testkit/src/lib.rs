//! Test support: namespaces, cgroups, feature gates
