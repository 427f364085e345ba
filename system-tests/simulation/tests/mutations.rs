//! The list of mutations keeps up with the sources; whether each is noticed, `make mutations` tells.

use std::path::Path;

use wavekeep_simulation::mutation::parse;

#[test]
fn the_text_of_each_mutation_stands_exactly_once_in_its_file() {
    // Asked at run time: clones share a target directory, and with it this very program.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test");
    let root = Path::new(&package).join("../..");
    let lists = std::fs::read_dir(root.join("system-tests/mutations")).expect("the lists are here");
    let mut count = 0;
    for list in lists {
        let list = list.expect("the folder can be read").path();
        let text = std::fs::read_to_string(&list).expect("text");
        for mutation in parse(&text).expect("it is well-formed") {
            let source = std::fs::read_to_string(root.join(&mutation.file)).expect(&mutation.file);
            let found = source.matches(&mutation.find).count();
            assert_eq!(found, 1, "{}, in {}", mutation.name, list.display());
            count += 1;
        }
    }
    assert!(count > 80, "{count} mutations");
}
