//! The generated code is committed, and this proves it current. `WAVEKEEP_GENERATE=1 cargo test -p wavekeep-proto --test
//! generated` (or `make generate`) writes it anew.

use std::path::{Path, PathBuf};

use protox::prost::Message;

/// Asked at run time: clones share a target directory, and with it this very program.
fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .expect("cargo runs this test")
        .into()
}

fn generate(out: &Path) -> Vec<u8> {
    let root = package();
    let files = ["stream", "ingest", "query", "catalog"].map(|name| root.join(format!("wavekeep/v1/{name}.proto")));
    let descriptors = protox::compile(files, [&root]).expect("the .proto files compile");
    let encoded = descriptors.encode_to_vec();
    tonic_prost_build::configure()
        .out_dir(out)
        .bytes(".")
        .btree_map(".")
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds(descriptors)
        .expect("the descriptors generate");
    encoded
}

#[test]
fn generated_code_is_current() {
    let committed = package().join("src/generated");
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("generated");
    std::fs::create_dir_all(&scratch).expect("the target directory is writable");
    let descriptor = generate(&scratch);
    let code = std::fs::read(scratch.join("wavekeep.v1.rs")).expect("the code was generated");
    if std::env::var_os("WAVEKEEP_GENERATE").is_some() {
        std::fs::write(committed.join("wavekeep.v1.rs"), &code).expect("the source tree is writable");
        std::fs::write(committed.join("descriptor.bin"), &descriptor).expect("the source tree is writable");
    }
    let same = |name: &str, fresh: &[u8]| std::fs::read(committed.join(name)).is_ok_and(|old| old == fresh);
    assert!(
        same("wavekeep.v1.rs", &code),
        "src/generated/wavekeep.v1.rs is stale: run `make generate` and commit"
    );
    assert!(
        same("descriptor.bin", &descriptor),
        "src/generated/descriptor.bin is stale: run `make generate` and commit"
    );
}
