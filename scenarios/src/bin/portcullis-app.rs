//! The test application as a process of its own.

fn main() -> std::io::Result<()> {
    portcullis_scenarios::app::server::main()
}
