//! Sizes, rates and times.

use scenarios::quantity::{duration, rate, size};

#[test]
fn sizes() {
    for (text, bytes) in [
        ("0 B", 0),
        ("1 B", 1),
        ("40 GiB", 40 << 30),
        ("80GB", 80_000_000_000),
        (" 1.5 KiB ", 1536),
        ("2 TiB", 2 << 40),
        ("1e3 MB", 1_000_000_000),
        ("42338615296 B", 42_338_615_296),
        ("0.4 B", 0),
        ("1048576 TiB", 1 << 60),
    ] {
        assert_eq!(size(text).map(|s| s.0), Ok(bytes), "{text}");
    }
}

#[test]
fn rates() {
    for (text, bytes_per_s) in [
        ("0 bps", 0.0),
        ("8 bps", 1.0),
        ("400 Gbps", 50e9),
        ("1.5 TB/s", 1.5e12),
        ("25 GB/s", 25e9),
        ("1 KiB/s", 1024.0),
        ("3 MiB/s", 3_145_728.0),
        ("2 Kbps", 250.0),
        ("1 Tbps", 125e9),
        ("2E+2 MB/s", 2e8),
        ("281 TB/s", 281e12),
    ] {
        assert_eq!(rate(text).map(|r| r.as_bytes_per_s()), Ok(bytes_per_s), "{text}");
    }
}

#[test]
fn times() {
    for (text, ps) in [
        ("0 s", 0),
        ("1 ps", 1),
        ("5 us", 5_000_000),
        ("0.5 ns", 500),
        ("30 ms", 30_000_000_000),
        ("2 min", 120_000_000_000_000),
        ("1 h", 3_600_000_000_000_000),
        ("7 d", 604_800_000_000_000_000),
        ("213 d", 18_403_200_000_000_000_000),
    ] {
        assert_eq!(duration(text).map(|d| d.as_ps()), Ok(ps), "{text}");
    }
}

#[test]
fn what_is_no_quantity_says_what_would_be() {
    let size = |text| size(text).map(|_| ()).map_err(|e| (e.code(), e.to_string(), e.help()));
    let rate = |text| rate(text).map(|_| ()).map_err(|e| (e.code(), e.to_string(), e.help()));
    let time = |text| duration(text).map(|_| ()).map_err(|e| (e.code(), e.to_string(), e.help()));
    let of = |code, message: &str, help: &str| Err((code, message.to_string(), help.to_string()));
    assert_eq!(size("40"), of("T0105", "a size needs a unit: `40`", "write for example `\"40 GiB\"`"));
    assert_eq!(rate("1e9"), of("T0105", "a rate needs a unit: `1e9`", "write for example `\"1e9 Gbps\"`"));
    assert_eq!(rate("4 gbps"), of("T0106", "a rate has no unit `gbps`", "did you mean `\"4 Gbps\"`?"));
    assert_eq!(rate("4 GBs"), of("T0106", "a rate has no unit `GBs`", "did you mean `\"4 GB/s\"`?"));
    assert_eq!(size("4 gib"), of("T0106", "a size has no unit `gib`", "did you mean `\"4 GiB\"`?"));
    assert_eq!(time("4 sec"), of("T0106", "a time has no unit `sec`", "did you mean `\"4 s\"`?"));
    let form = "write a number and a unit, for example `\"10 GiB\"`";
    assert_eq!(size("lots"), of("T0106", "`lots` is not a size", form));
    assert_eq!(size(""), of("T0106", "`` is not a size", form));
    assert_eq!(size("1.2.3 GB"), of("T0106", "`1.2.3 GB` is not a size", form));
    let range = "a size must be finite and from 0 to 1048576 TiB";
    for text in ["-1 GB", "nan GB", "inf GB", "-inf B", "NaN", "1e400 B", "2e30 B", "1048577 TiB"] {
        assert_eq!(size(text), of("T0107", &format!("{range}: `{text}`"), ""), "{text}");
    }
    assert_eq!(rate("300 TB/s"), of("T0107", "a rate must be finite and from 0 to 281 TB/s: `300 TB/s`", ""));
    assert_eq!(time("214 d"), of("T0107", "a time must be finite and from 0 to 213 d: `214 d`", ""));
}
