#!/bin/sh
# rustc for `cargo xtask fuzz`, set as RUSTC_WORKSPACE_WRAPPER: the crates of the workspace count the edges that an
# input takes, so that libFuzzer is guided by the model as well as by the C.
case " $* " in
*" --crate-name build_script_"* | *" --print="* | *" -vV "*) exec "$@" ;;
esac
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Copt-level=2 -Ccodegen-units=1
