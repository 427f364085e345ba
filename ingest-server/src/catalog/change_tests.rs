//! The rules of `change`.

use super::*;

fn run(name: &str) -> RunRow {
    RunRow {
        name: name.into(),
        labels: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
        parent: None,
        note: "as it was".into(),
        members: vec![of_device("js220", Some(1), Some(2))],
        recorded: 0,
        created_at_ns: 0,
        updated_at_ns: 0,
    }
}

fn of_device(device: &str, from_ns: Option<i64>, to_ns: Option<i64>) -> RunMember {
    RunMember {
        of: MemberOf::Device(device.into()),
        from_ns,
        to_ns,
    }
}

fn selection(device: &str, from_ns: Option<i64>, to_ns: Option<i64>) -> v1::Selection {
    v1::Selection {
        what: Some(v1::selection::What::Device(device.into())),
        range: Some(v1::TimeRange { from_ns, to_ns }),
        ..v1::Selection::default()
    }
}

fn update(change: impl FnOnce(&mut v1::UpdateRunRequest)) -> Result<(String, Change), Why> {
    let mut request = v1::UpdateRunRequest {
        run: Some(v1::Run {
            name: "night".into(),
            ..v1::Run::default()
        }),
        ..v1::UpdateRunRequest::default()
    };
    change(&mut request);
    Change::of_update(request)
}

#[test]
fn a_change_that_is_made_twice_is_made_once() {
    let (name, change) = update(|request| {
        let run = request.run.as_mut().expect("it is there");
        run.labels = BTreeMap::from([("b".into(), "3".into()), ("c".into(), "4".into())]);
        request.remove_labels = vec!["a".into(), "x".into()];
        request.parent = Some("week".into());
        request.members = vec![selection("js220", Some(5), None), selection("js220", Some(5), None)];
        request.remove_members = vec![selection("js220", Some(1), Some(2)), selection("ppk2", None, None)];
    })
    .expect("it is right");
    let once = change.apply(&run(&name)).expect("it fits");
    assert_eq!(
        once.labels,
        BTreeMap::from([("b".into(), "3".into()), ("c".into(), "4".into())])
    );
    assert_eq!(
        (once.note.as_str(), once.parent.as_deref()),
        ("as it was", Some("week"))
    );
    assert_eq!(once.members, [of_device("js220", Some(5), None)]);
    assert_eq!(change.apply(&once).expect("it fits"), once);
    let (_, none) = update(|request| request.parent = Some(String::new())).expect("it is right");
    assert_eq!(none.apply(&once).expect("it fits").parent, None);
}

#[test]
fn what_is_no_member_no_label_and_no_name_is_refused_in_words() {
    type Spoil = fn(&mut v1::UpdateRunRequest);
    let spoil: [(Spoil, &str); 7] = [
        (
            |request| request.members = vec![selection("a", Some(2), Some(2))],
            "is empty",
        ),
        (
            |request| request.members = vec![v1::Selection::default()],
            "say which one",
        ),
        (
            |request| {
                request.members = vec![v1::Selection {
                    filter: "a=1".into(),
                    ..selection("a", None, None)
                }];
            },
            "leave out",
        ),
        (
            |request| request.members = vec![selection(" a", None, None)],
            "a device has a name",
        ),
        (
            |request| request.run.as_mut().expect("a run").labels = BTreeMap::from([("device".into(), "x".into())]),
            "no label has this key",
        ),
        (
            |request| request.run.as_mut().expect("a run").labels = BTreeMap::from([("k".into(), "\n".into())]),
            "control characters",
        ),
        (
            |request| request.note = Some("a".repeat(limits::NOTE_BYTES_MAX + 1)),
            "at most 10000 bytes",
        ),
    ];
    for (spoil, part) in spoil {
        let error = update(spoil).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn i12_a_run_has_limits() {
    let labels = (0..=proto_limits::LABELS_MAX).map(|at| (format!("k{at}"), String::new()));
    let many = Change {
        set: labels.collect(),
        ..Change::default()
    };
    assert!(
        many.apply(&run("a"))
            .expect_err("too many")
            .to_string()
            .contains("more than 64 labels")
    );
    let members = (0..=limits::MEMBERS_MAX as i64).map(|at| of_device("js220", Some(at), None));
    let many = Change {
        add: members.collect(),
        ..Change::default()
    };
    assert!(
        many.apply(&run("a"))
            .expect_err("too many")
            .to_string()
            .contains("more than 1000 ranges")
    );
    assert!(of_import(vec![v1::Run::default(); limits::IMPORT_MAX + 1]).is_err());
}

#[test]
fn an_error_says_which_entry_it_is_about() {
    let named = |name: &str| v1::Run {
        name: name.into(),
        ..v1::Run::default()
    };
    let error = of_import(vec![named("a"), named("")]).expect_err("a run has a name");
    assert_eq!(error.entry, Some(1));
}

#[test]
fn a_marker_is_what_it_says_it_is() {
    let marker = |format: v1::MarkerFormat, content: &'static [u8]| {
        Marker::of(v1::AddedMarker {
            id: vec![1; 16].into(),
            device: "js220".into(),
            format: format as i32,
            content: content.into(),
            ..v1::AddedMarker::default()
        })
    };
    assert!(marker(v1::MarkerFormat::Text, b"\xff").is_err());
    assert!(marker(v1::MarkerFormat::Json, b"{\"a\": }").is_err());
    assert!(marker(v1::MarkerFormat::Unspecified, b"a").is_err());
    let json = marker(v1::MarkerFormat::Json, b"{\"a\": 1}").expect("it is JSON");
    assert!(json.format == MarkerFormat::Json && json.y.is_nan());
    assert!(marker(v1::MarkerFormat::Bytes, b"\xff").is_ok());
}
