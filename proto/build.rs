//! Compiles the `.proto` files with protox, so that no system `protoc` is needed.

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let files = [
        "virtflow/agent/v1/agent.proto",
        "virtflow/raft/v1/raft.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        .bytes(".virtflow.raft.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
