//! Golden values: recordings outlive programs, so the function never changes. If a test here fails, the change is wrong, not the
//! test; a different instrument needs a new model name. The values were computed by a second implementation, in Python.

use super::super::{Logic, LogicSignal, SAMPLE_ID_END, SimulatedSignal};
use super::{bits, samples, simulator};

const CURRENT: SimulatedSignal = SimulatedSignal::Current;
const VOLTAGE: SimulatedSignal = SimulatedSignal::Voltage;

/// FNV-1a over the little-endian bytes: a digest that is easy to repeat in any language.
fn digest(samples: &[f32]) -> u64 {
    digest_bytes(samples.iter().flat_map(|sample| sample.to_le_bytes()))
}

fn digest_bytes(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[test]
fn the_first_samples_never_change() {
    for (spec, signal, golden) in [
        (
            "js220,seed=7",
            CURRENT,
            [
                0x3586_67D4,
                0x3586_60F8,
                0x3586_5E18,
                0x3586_5A43,
                0x3586_5EAF,
                0x3586_6EC2,
                0x3586_63B3,
                0x3586_29BF,
            ],
        ),
        (
            "js220,seed=7",
            VOLTAGE,
            [
                0x4053_357E,
                0x4053_384F,
                0x4053_3DD4,
                0x4053_480B,
                0x4053_36D7,
                0x4053_2AB0,
                0x4053_2D5C,
                0x4053_5088,
            ],
        ),
        (
            "js110,seed=7",
            CURRENT,
            [
                0x3586_551A,
                0x3586_7AD9,
                0x3586_C659,
                0x3586_7AD9,
                0x3586_A099,
                0x3586_A099,
                0x3587_11D8,
                0x3585_E3DA,
            ],
        ),
        (
            "js110,seed=7",
            VOLTAGE,
            [
                0x4053_071B,
                0x4053_1623,
                0x4053_252B,
                0x4053_1623,
                0x4053_7053,
                0x4053_3433,
                0x4053_433B,
                0x4053_1623,
            ],
        ),
    ] {
        let actual = bits(&samples(&simulator(spec), signal, 0, 8));
        assert_eq!(actual, golden, "{spec} {signal:?}: {actual:#010X?}");
    }
}

#[test]
fn the_last_samples_of_the_axis_never_change() {
    for (spec, signal, golden) in [
        ("js220,seed=7", CURRENT, [0x3587_9049, 0x3587_674B]),
        ("js220,seed=7,rate=1", VOLTAGE, [0x4053_3893, 0x4053_3087]),
        ("js110,seed=7", CURRENT, [0x3588_8B55, 0x3588_FC94]),
        ("js110,seed=7,rate=1", VOLTAGE, [0x4053_1623, 0x4053_071B]),
    ] {
        let actual = bits(&samples(&simulator(spec), signal, SAMPLE_ID_END - 2, 2));
        assert_eq!(actual, golden, "{spec} {signal:?}: {actual:#010X?}");
    }
}

/// A million samples hold several bursts with all of their pieces, and many blocks of noise.
#[test]
fn a_million_samples_never_change() {
    for (spec, signal, golden) in [
        ("js220,seed=7", CURRENT, 0x9D61_DF49_4C06_E907),
        ("js220,seed=7", VOLTAGE, 0x81EC_8D1F_7969_7A02),
        ("js110,seed=7", CURRENT, 0x294F_CC85_B3BA_9C78),
        ("js110,seed=7", VOLTAGE, 0x01C0_3792_B934_C678),
        (
            "js220,seed=18446744073709551615,rate=31250,wake=100ms",
            CURRENT,
            0x648B_DB79_1B6C_FEA2,
        ),
        ("js110,seed=0,rate=999983,wake=1s", CURRENT, 0xAE58_F1D2_D613_BCEC),
    ] {
        let actual = digest(&samples(&simulator(spec), signal, 12_345_678_901, 1_000_000));
        assert_eq!(actual, golden, "{spec} {signal:?}: {actual:#018X}");
    }
}

/// Of every signal, packed, three bits off any byte of the axis.
#[test]
fn the_digital_signals_never_change() {
    let spec = "js220,seed=7,rate=31250,wake=100ms,logic=true".parse();
    let logic = Logic::of(&spec.expect("the test's specification is valid")).expect("it has digital signals");
    let goldens = [
        0xBA2C_E988_A33D_D2F7,
        0x363D_28A2_3C55_620F,
        0x68DC_C03D_7D18_41FA,
        0x4A89_2C72_E933_162F,
        0xB272_818A_664A_3475,
        0xCBF4_98AF_FF41_2093,
    ];
    let mut bytes = Vec::new();
    for (signal, golden) in LogicSignal::ALL.into_iter().zip(goldens) {
        logic.fill(signal, 12_345_678_903, 100_001, &mut bytes);
        let actual = digest_bytes(bytes.iter().copied());
        assert_eq!(actual, golden, "{signal:?}: {actual:#018X}");
    }
}

#[test]
fn the_losses_never_change() {
    let simulator = simulator("js220,seed=7,loss=1e-5");
    let mut at = 0;
    let mut losses = Vec::new();
    while losses.len() < 5 {
        let lost = simulator.next_loss(at, SAMPLE_ID_END).expect("losses go on");
        at = lost.end;
        losses.push(lost);
    }
    assert_eq!(
        losses,
        [
            33_323..35_049,
            106_764..106_822,
            131_954..133_467,
            257_488..258_040,
            444_939..445_717
        ]
    );
    assert_eq!(
        simulator.next_loss(1 << 62, SAMPLE_ID_END),
        Some(4_611_686_018_427_424_471..4_611_686_018_427_424_714)
    );
}
