//! The guards do what they promise, and undo it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{self, Command, Output, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use portcullis_testkit::{Feature, NetNs, TestCgroup, cgroup2_mount, eventually, free_ports, need, probe};

#[test]
fn a_child_starts_inside_the_cgroup() {
    need!(Root, Cgroup2);
    let cgroup = TestCgroup::new("child").unwrap();
    let mut command = Command::new("cat");
    command.arg("/proc/self/cgroup").stdout(Stdio::piped());
    cgroup.enter_command(&mut command).unwrap();
    let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let name = cgroup.path().file_name().unwrap().to_str().unwrap();
    assert!(out.lines().any(|l| l.starts_with("0::") && l.ends_with(name)), "{out}");
}

#[test]
fn a_dropped_cgroup_is_gone_with_what_ran_in_it() {
    need!(Root, Cgroup2);
    let cgroup = TestCgroup::new("gone").unwrap();
    let path = cgroup.path().to_owned();
    let mut command = Command::new("sleep");
    command.arg("60");
    cgroup.enter_command(&mut command).unwrap();
    let mut child = command.spawn().unwrap();
    let waiter = thread::spawn(move || child.wait().unwrap());
    drop(cgroup);
    assert!(!path.exists());
    assert!(!waiter.join().unwrap().success(), "the sleeper was killed");
}

#[test]
fn the_process_goes_into_a_cgroup_and_back() {
    need!(Root, Cgroup2);
    let own = || fs::read_to_string("/proc/self/cgroup").unwrap();
    let before = own();
    let cgroup = TestCgroup::new("process").unwrap();
    {
        let _in = cgroup.enter_process().unwrap();
        assert_ne!(own(), before);
    }
    assert_eq!(own(), before);
    assert!(cgroup.path().starts_with(cgroup2_mount().unwrap()));
}

#[test]
fn a_namespace_has_its_own_ports_and_a_working_loopback() {
    need!(NetNs);
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = outside.local_addr().unwrap();
    {
        let ns = NetNs::enter().unwrap();
        assert!(TcpStream::connect(addr).is_err(), "the outer listener is out of reach");
        let inside = TcpListener::bind(addr).expect("the same port is free in here");
        let handle = ns.handle().unwrap();
        thread::spawn(move || NetNs::join(&handle).and_then(|()| Ok(TcpStream::connect(addr)?)))
            .join()
            .unwrap()
            .expect("a thread started inside reaches the inner listener");
        drop(inside);
    }
    TcpStream::connect(addr).expect("back outside");
}

#[test]
fn ports_are_different() {
    let mut ports = free_ports(8).unwrap();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 8);
}

#[test]
fn eventually_returns_what_it_waited_for() {
    let mut n = 0;
    let got = eventually("the third call", Duration::from_secs(5), || {
        n += 1;
        (n == 3).then_some(n)
    });
    assert_eq!(got, 3);
}

/// Runs the calling test again, in a process of its own, where `CHILD` is set.
fn again(test: &str, require: &str, skips: &Path) -> Output {
    Command::new(env::current_exe().expect("a test has a path"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .env("PORTCULLIS_REQUIRE", require)
        .env("PORTCULLIS_SKIPS", skips)
        .output()
        .expect("the test binary starts")
}

/// The part that runs in the child: it must not get past its first line.
fn skip_here() {
    need!(Tool("no-such-program-of-portcullis"));
    panic!("the test went on without its feature");
}

#[test]
fn a_skip_is_said_recorded_and_no_failure() {
    if env::var_os(CHILD).is_some() {
        return skip_here();
    }
    let skips = env::temp_dir().join(format!("pc-skips-{}", process::id()));
    let out = again("a_skip_is_said_recorded_and_no_failure", "", &skips);
    let recorded = fs::read_to_string(&skips).unwrap();
    fs::remove_file(&skips).unwrap();
    assert!(out.status.success(), "{out:?}");
    assert!(recorded.starts_with("a_skip_is_said") && recorded.ends_with("not installed\n"), "{recorded}");
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(stderr.contains("SKIPPED a_skip_is_said_recorded_and_no_failure"), "{stderr}");
}

#[test]
fn a_required_feature_fails_instead_of_skipping() {
    if env::var_os(CHILD).is_some() {
        return skip_here();
    }
    let skips = env::temp_dir().join(format!("pc-required-{}", process::id()));
    let out = again("a_required_feature_fails_instead_of_skipping", "all", &skips);
    assert!(!out.status.success());
    assert!(!skips.exists(), "a failure is not a skip");
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(stderr.contains("needs what this machine lacks"), "{stderr}");
}

#[test]
fn a_granted_probe_means_the_guard_works() {
    assert_eq!(probe(Feature::NetNs).is_ok(), NetNs::enter().is_ok());
    assert_eq!(probe(Feature::Cgroup2).is_ok(), TestCgroup::new("granted").is_ok());
}

const CHILD: &str = "PORTCULLIS_TESTKIT_CHILD";
