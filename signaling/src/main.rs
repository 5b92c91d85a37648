//! The `uringcast` binary.

/// Small and fast, with a heap per thread: workers never wait for each other's frees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    uringcast::main()
}
