//! Bounds of the kernel side stand in bpf/include/limits.h and nowhere else.

use std::collections::BTreeSet;

use super::Tree;

const LIMITS: &str = "bpf/include/limits.h";
/// What may not use the kernel side's crate.
const INDEPENDENT: &[&str] = &["core/", "mock-control-plane/", "traffic-gen/"];

pub(super) fn findings(tree: &Tree) -> Vec<String> {
    let Some(header) = tree.file(LIMITS) else { return vec![format!("{LIMITS}: is missing")] };
    let names: BTreeSet<&str> = header.text.lines().filter_map(define).map(|(name, _)| name).collect();
    let mut out = Vec::new();
    for file in tree.files.iter().filter(|f| f.path != LIMITS) {
        for (n, line) in file.text.lines().enumerate() {
            let at = format!("{}:{}", file.path, n + 1);
            if let Some((name, value)) = define(line).filter(|_| file.is_c()) {
                let bounds = name.ends_with("_MAX") && value.starts_with(|c: char| c.is_ascii_digit());
                if names.contains(name) || bounds {
                    out.push(format!("{at}: {name}: a bound of the kernel side; its one place is {LIMITS}"));
                }
            }
            // The independent model and the judges have their own numbers, and tests compare them.
            if file.is_rust()
                && !INDEPENDENT.iter().any(|dir| file.path.starts_with(dir))
                && let Some(name) = retyped(line).filter(|name| names.contains(format!("PC_{name}").as_str()))
            {
                out.push(format!(
                    "{at}: {name}: take it from portcullis_bpf::limits, which is made from {LIMITS}"
                ));
            }
        }
    }
    out
}

/// `#define PC_NAME value`
fn define(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix("#define ")?.split_once(' ')?;
    name.starts_with("PC_").then_some((name, value.trim()))
}

/// `const NAME: usize = 42;`: the name, when the value is a number.
fn retyped(line: &str) -> Option<&str> {
    let (name, rest) =
        line.trim_start().trim_start_matches("pub ").strip_prefix("const ")?.split_once(':')?;
    rest.split_once("= ")?.1.starts_with(|c: char| c.is_ascii_digit()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    fn check(path: &str, text: &str) -> usize {
        findings(&tree(&[(LIMITS, "#define PC_HEAD_MAX 16384\n#define PC_HALVES 2\n"), (path, text)])).len()
    }

    #[test]
    fn a_limit_elsewhere_is_found() {
        assert_eq!(check("bpf/lib/a.h", "#define PC_HALVES 2\n"), 1, "retyped");
        assert_eq!(check("bpf/lib/a.h", "#define PC_OTHER_MAX 7\n"), 1, "a new bound");
        assert_eq!(
            check("enforcer/src/a.rs", "    pub const HEAD_MAX: usize = 16384;\n"),
            1,
            "retyped in Rust"
        );
    }

    #[test]
    fn what_is_no_second_copy_is_not_found() {
        assert_eq!(check("bpf/lib/a.h", "#define PC_FENCE asm\n#define PC_A_MAX (PC_HEAD_MAX / 2)\n"), 0);
        assert_eq!(check("core/policy/src/a.rs", "const HEAD_MAX: usize = 16384;\n"), 0);
        assert_eq!(check("enforcer/src/a.rs", "const HEAD_MAX: usize = limits::HEAD_MAX;\n"), 0);
    }
}
