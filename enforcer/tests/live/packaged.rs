//! Servers as distributions ship them, that take some more to start: Apache httpd, and gunicorn with threads.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use portcullis_testkit::{eventually, free_port};

use crate::servers::{Process, Server, directory, source};

impl Server {
    /// With a thread for each connection: its event module closes idle connections as it likes.
    pub fn apache() -> Server {
        let dir = directory("apache");
        let addr = address();
        let modules = Path::new("/usr/lib/apache2/modules");
        let load = ["mpm_worker", "authz_core", "alias"]
            .map(|name| {
                format!("LoadModule {name}_module {}\n", modules.join(format!("mod_{name}.so")).display())
            })
            .concat();
        let root = dir.join("www");
        fs::create_dir_all(&root).expect("a directory");
        fs::write(root.join("ok"), "ok\n").expect("a file");
        let config = format!(
            "{load}ServerRoot {dir}\nPidFile {dir}/pid\nMutex posixsem\nListen {addr}\nListenBacklog 512\n\
             ServerName localhost\nMaxRequestWorkers 64\nDocumentRoot {dir}/www\nErrorLog {dir}/error.log\nKeepAlive On\n\
             MaxKeepAliveRequests 0\nThreadsPerChild 64\nAliasMatch ^/.* {dir}/www/ok\n\
             LogFormat \"%U %>s -\" seen\nCustomLog {dir}/access.log seen\n\
             <Directory {dir}/www>\nRequire all granted\n</Directory>\n",
            dir = dir.display(),
        );
        let path = dir.join("apache.conf");
        fs::write(&path, config).expect("a configuration");
        let program =
            ["/usr/sbin/apache2", "/usr/local/sbin/apache2"].into_iter().find(|p| Path::new(p).exists());
        let mut command = Command::new(program.unwrap_or("apache2"));
        // One process, in the foreground.
        command.args(["-X", "-f"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("starting apache2");
        listens("apache2", addr);
        Server::Logs(Process::listening(child, dir, addr, |_, _, _| true))
    }

    /// Its threads read with blocking calls what the main thread has seen to be readable.
    pub fn gunicorn() -> Server {
        let dir = directory("gunicorn");
        let addr = address();
        let mut command = Command::new("gunicorn");
        command.args(["--worker-class", "gthread", "--threads", "64", "--keep-alive", "30", "--bind"]);
        command.arg(addr.to_string()).arg("--worker-tmp-dir").arg(&dir).arg("--chdir");
        command.arg(source("").as_os_str()).arg("server_wsgi:app");
        command.env("PYTHONDONTWRITEBYTECODE", "1").stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("starting gunicorn");
        listens("gunicorn", addr);
        let worker = eventually("gunicorn's worker", Duration::from_secs(10), || worker(&child));
        let server = Process::listening(child, dir, addr, |process, thread, _| process == thread);
        Server::Teller(server.at_work(worker).blocking())
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port().expect("a port")))
}

fn listens(name: &str, addr: SocketAddr) {
    eventually(&format!("{name} to listen"), Duration::from_secs(30), || {
        TcpStream::connect(addr).ok().map(drop)
    });
}

/// The first child of a process.
fn worker(parent: &Child) -> Option<u32> {
    let id = parent.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
