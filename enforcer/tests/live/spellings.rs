//! T16: other spellings of a path, before servers that look for files by their own reading of it. Whatever they make of one, a
//! file that takes a token is given to nobody without.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use portcullis_testkit::{emulated, eventually, free_port, need};
use portcullis_wire::{Action, Auth, Mode, Policy, Rule};

use crate::app::App;
use crate::client::{Client, get};
use crate::servers::{Process, Server, directory};
use crate::world::World;

/// What somebody or other takes for the way up.
const DOTS: &[&str] = &[
    "..",
    ".%2e",
    "%2E.",
    "%2e%2e",
    "..%00",
    ".%00.",
    "..;",
    "..;a=b",
    "..%20",
    "..%09",
    "..%3f",
    "..%23",
    "%252e%252e",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%uff0e%uff0e",
    "\u{ff0e}\u{ff0e}",
    "...",
];
/// And for what stands between two names.
const SLASHES: &[&str] =
    &["/", "//", "/./", "/%2e/", ";/", "/;/", "%00/", "\\", "%2f", "%2F", "%5c", "%252f", "%c0%af", "%u2215"];
/// Others, on no way that the lists above describe.
const LONE: &[&str] = &[
    "/secret/a.txt",
    "//secret/a.txt",
    "///secret/a.txt",
    "/./secret/a.txt",
    "/.//secret/a.txt",
    "/%2e/secret/a.txt",
    "/;/secret/a.txt",
    "/%00/secret/a.txt",
    "/\\secret/a.txt",
    "\\secret\\a.txt",
    "/%73ecret/a.txt",
    "/%2573ecret/a.txt",
    "/%u0073ecret/a.txt",
    "/SECRET/a.txt",
    "/secret%2fa.txt",
    "/secret%5ca.txt",
    "/secret;x/a.txt",
    "/secret./a.txt",
    "/secret%20/a.txt",
    "/secret%00/a.txt",
    "/secret//a.txt",
    "/secret/./a.txt",
    "/secret/x/../a.txt",
    "/secret/a.txt/",
    "/secret/a.txt/.",
    "/secret/a.txt;x",
    "/secret/a.txt%00",
    "/secret/a.txt%00.html",
    "/secret/a.txt%20",
    "/secret/a.txt?x",
    "/secret/a.txt#x",
    "/secret/a.txt%3fx",
    "/open/a.txt/../../secret/a.txt",
    "/open/a.txt?/../../secret/a.txt",
    "/open/a.txt#/../../secret/a.txt",
    "/open/a.txt%3f/../../secret/a.txt",
    "/open/a.txt;/../../secret/a.txt",
    "//open/../secret/a.txt",
    "/open/../../secret/a.txt",
    "/open/../../../../secret/a.txt",
    "http://a.example/secret/a.txt",
    "http://a.example/open/../secret/a.txt",
    "http://a.example//secret/a.txt",
    "http://a.example\\secret/a.txt",
    "//a.example/secret/a.txt",
    "secret/a.txt",
    "?/secret/a.txt",
    "*",
];
const OPEN: &str = "what anybody may read";
const SECRET: &str = "what takes a token";

/// All spellings; where processors are emulated, a part of those that are put together.
fn spellings() -> Vec<String> {
    let mut all = Vec::new();
    for up in DOTS {
        for before in SLASHES {
            for behind in SLASHES {
                all.push(format!("/open{before}{up}{behind}secret/a.txt"));
            }
            all.push(format!("/open/x{before}{up}{before}{up}{before}secret/a.txt"));
            all.push(format!("/secret/x{before}{up}{before}a.txt"));
        }
    }
    let part = if emulated() { 5 } else { 1 };
    LONE.iter().map(|path| (*path).to_owned()).chain(all.into_iter().step_by(part)).collect()
}

/// A directory with an open file and another one.
fn files(name: &str) -> std::path::PathBuf {
    let dir = directory(name);
    for (group, text) in [("open", OPEN), ("secret", SECRET)] {
        let group = dir.join("www").join(group);
        fs::create_dir_all(&group).expect("a directory");
        fs::write(group.join("a.txt"), text).expect("a file");
    }
    dir
}

/// Whether the file is given out for this spelling, without a token.
fn is_given(server: &Server, path: &str) -> bool {
    let mut client = Client::connect(server.addr());
    client.timeout(Duration::from_secs(5));
    // A connection that ends gives nothing.
    let asked = client.try_send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
    asked.and_then(|()| client.response()).is_ok_and(|response| response.body.contains(SECRET))
}

/// What is open, and what the rest takes.
fn policies(port: u16) -> [(&'static str, Policy); 2] {
    let rule = |path: &str, auth| Rule {
        method: "*".into(),
        path_pattern: path.into(),
        auth: Some(auth),
        ..Rule::default()
    };
    let policy = |default_action, rules| Policy {
        id: "files".into(),
        name: "files".into(),
        port_match: port,
        host_match: None,
        mode: Mode::Enforce,
        default_action,
        rules,
    };
    // A rule for what is open; and the other way round, where all that a rule does not know is open.
    let open = vec![rule("/open/**", Auth::None), rule("/secret/**", Auth::Required)];
    let shut = vec![rule("/secret/**", Auth::Required)];
    [("what is open is named", policy(Action::Deny, open)), ("what is not is", policy(Action::Allow, shut))]
}

fn suite(name: &str, start: impl FnOnce(&Path) -> Server) {
    let mut world = World::new(name);
    let dir = files(name);
    let server = start(&dir);
    let spellings = spellings();
    let given = |path: &&String| is_given(&server, path);
    // Without an enforcer some lead there, by more than one way.
    let ways: Vec<&String> = spellings.iter().filter(given).collect();
    assert!(ways.iter().any(|path| path.contains("/open/../")), "{ways:?}");
    for (which, policy) in policies(server.addr().port()) {
        world.apply(vec![policy]);
        let bypasses: Vec<&str> = spellings.iter().filter(given).map(String::as_str).collect();
        assert_eq!(bypasses, [""; 0], "{which}");
        let ask = |path: &str, token: Option<&str>| Client::connect(server.addr()).ask(get(path, token));
        assert!(ask("/open/a.txt", None).body.contains(OPEN), "{which}");
        assert_eq!(ask("/secret/a.txt", None).status, 401, "{which}");
        assert!(ask("/secret/a.txt", Some(&world.role("reader"))).body.contains(SECRET), "{which}");
    }
    println!("{} of {} spellings lead there without an enforcer, none with one", ways.len(), spellings.len());
}

fn listening(name: &str, mut command: Command, dir: &Path, addr: std::net::SocketAddr) -> Server {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{name}: {error}"));
    eventually(name, Duration::from_secs(10), || std::net::TcpStream::connect(addr).ok().map(drop));
    Server::Logs(Process::listening(child, dir.to_owned(), addr, |_, _, _| true))
}

fn address() -> std::net::SocketAddr {
    ([127, 0, 0, 1], free_port().expect("a port")).into()
}

fn program(name: &str) -> Command {
    let places = [format!("/usr/sbin/{name}"), format!("/usr/local/sbin/{name}")];
    Command::new(places.into_iter().find(|path| Path::new(path).exists()).unwrap_or_else(|| name.to_owned()))
}

#[test]
fn nginx() {
    need!(Bpf, BpfFs, Cgroup2, Nginx);
    suite("nginxpaths", |dir| {
        let addr = address();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {}/{name};\n", dir.display()))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {dir}/pid;\nevents {{ worker_connections 1024; }}\n\
             http {{\n{temp}access_log off;\nserver {{ listen {addr} backlog=512; root {dir}/www; }}\n}}\n",
            dir = dir.display(),
        );
        let path = dir.join("nginx.conf");
        fs::write(&path, config).expect("a configuration");
        let mut command = program("nginx");
        command.arg("-p").arg(dir).arg("-c").arg(&path).args(["-e", "stderr"]);
        listening("nginx", command, dir, addr)
    });
}

/// It takes `%2F` for a slash only when told to.
#[test]
fn apache() {
    need!(Bpf, BpfFs, Cgroup2, Tool("apache2"));
    suite("apachepaths", |dir| {
        let addr = address();
        let modules = Path::new("/usr/lib/apache2/modules");
        let load: String = ["mpm_worker", "authz_core"]
            .map(|name| format!("LoadModule {name}_module {}/mod_{name}.so\n", modules.display()))
            .concat();
        let config = format!(
            "{load}ServerRoot {dir}\nPidFile {dir}/pid\nMutex posixsem\nListen {addr}\nServerName localhost\n\
             MaxRequestWorkers 64\nThreadsPerChild 64\nErrorLog {dir}/error.log\nDocumentRoot {dir}/www\n\
             AllowEncodedSlashes On\n<Directory {dir}/www>\nRequire all granted\n</Directory>\n",
            dir = dir.display(),
        );
        let path = dir.join("apache.conf");
        fs::write(&path, config).expect("a configuration");
        let mut command = program("apache2");
        command.args(["-X", "-f"]).arg(&path);
        listening("apache2", command, dir, addr)
    });
}

#[test]
fn python() {
    need!(Bpf, BpfFs, Cgroup2, Tool("python3"));
    suite("pythonpaths", |dir| {
        let addr = address();
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", &addr.port().to_string(), "--bind", "127.0.0.1", "--directory"]);
        command.arg(dir.join("www"));
        listening("http.server", command, dir, addr)
    });
}

#[test]
fn go() {
    need!(Bpf, BpfFs, Cgroup2, Go);
    suite("gopaths", |dir| Server::go_files(&dir.join("www")));
}

/// Made canonical is what is decided; the application reads what was sent.
#[test]
fn an_application_is_given_the_spelling_that_was_sent() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("aswritten");
    let app = App::local();
    let [(_, policy), _] = policies(app.port());
    world.apply(vec![policy]);
    assert_eq!(Client::connect(app.addr).ask(get("/open/%7Ea%2Cb", None)).status, 200);
    assert!(app.bytes().starts_with(b"GET /open/%7Ea%2Cb HTTP/1.1\r\n"), "{}", app.bytes().escape_ascii());
}
