//! Demands: what they mean, and what is said of one that means nothing.

use baiwan_load::{Expectations, Need};

use crate::sample;

fn judged(text: &str) -> Vec<(bool, String)> {
    let demands: Expectations = text.parse().unwrap();
    demands.judge(&sample::open_loop()).iter().map(|demand| (demand.met, demand.measured())).collect()
}

#[test]
fn every_figure_is_measured_with_its_unit() {
    for (text, met, measured) in [
        ("p50<1ms", true, "401 µs"),
        ("p50 < 300us", false, "401 µs"),
        ("p90<=1ms", true, "962 µs"),
        ("p99<0.001s", false, "1.76 ms"),
        ("p99.9>1µs", true, "103 ms"),
        ("p99.99<1m", true, "135 ms"),
        ("max>1ms", true, "201 ms"),
        ("mean>0", true, "622 µs"),
        ("errors=3", true, "3"),
        ("errors==0", false, "3"),
        ("error_rate<0.1%", true, "0.0005 %"),
        ("rps>=9999", true, "10,000/s"),
        ("rps>10k", false, ""),
        ("lost<=2", true, "2"),
        ("alive=1000", true, "1,000"),
        ("opened>=1000", true, "1,000"),
        ("attempts_failed=0", true, "0"),
        ("connect_p99<1ms", true, "393 µs"),
        ("send_delay_p99<100us", true, "88.2 µs"),
        ("server_cpu=7500ns", true, "7.5 µs"),
        ("user_bytes<=128", true, "61 B"),
        ("kernel_bytes<8KiB", true, "7.24 KiB"),
        ("kernel_bytes<7.4kB", false, "7.24 KiB"),
    ] {
        if measured.is_empty() {
            assert!(text.parse::<Expectations>().is_err(), "{text}");
        } else {
            assert_eq!(judged(text), [(met, measured.to_owned())], "{text}");
        }
    }
    assert_eq!(judged(" p50<1ms , errors<1 "), [(true, "401 µs".to_owned()), (false, "3".to_owned())]);
}

#[test]
fn what_was_not_measured_is_not_met() {
    let mut report = sample::closed_loop();
    report.latency = baiwan_load::Quantiles::default();
    let demands: Expectations = "p99<1s,events_missing=0,user_bytes<1000".parse().unwrap();
    for demand in demands.judge(&report) {
        assert_eq!((demand.met, demand.measured().as_str(), demand.value), (false, "not measured", None), "{demand:?}");
    }
}

#[test]
fn events_are_demanded_of_streams() {
    let demands: Expectations = "events_missing=0,events>=300000".parse().unwrap();
    let met: Vec<bool> = demands.judge(&sample::streams()).iter().map(|demand| demand.met).collect();
    assert_eq!(met, [false, true]);
}

#[test]
fn what_a_run_will_not_measure_is_found_before() {
    let demands: Expectations = "p99<1s,user_bytes<128".parse().unwrap();
    assert_eq!(demands.unmeasured(|need| need != Need::ServerPid), Some(("user_bytes<128", Need::ServerPid)));
    assert_eq!(demands.unmeasured(|need| need != Need::Events), None);
}

#[test]
fn a_wrong_demand_is_refused_with_what_is_allowed() {
    for (text, parts) in [
        ("", &["\"\"", "p99<50ms"] as &[_]),
        ("p99", &["\"p99\"", "<="]),
        ("p95<1ms", &["\"p95\"", "p90, p99"]),
        ("p99<50", &["p99", "\"50\"", "unit (ns, us"]),
        ("p99<", &["\"\"", "unit"]),
        ("p99<-1ms", &["\"-1ms\""]),
        ("p99<1 hour", &["\"1 hour\""]),
        ("p99<<1ms", &["\"<1ms\""]),
        ("p99=<1ms", &["\"<1ms\""]),
        ("error_rate<0.1", &["error_rate", "%"]),
        ("errors<1ms", &["errors", "plain number"]),
        ("user_bytes<1Kib", &["KiB"]),
        ("errors=0,", &["\"\""]),
        ("p99<.5ms", &["\".5ms\""]),
        ("p99<1.2.3ms", &["\"1.2.3ms\""]),
    ] {
        let refused = text.parse::<Expectations>().expect_err(text);
        assert!(!refused.contains('\n'), "{refused}");
        for part in parts {
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }
    assert!("p99<1s,".repeat(65).trim_end_matches(',').parse::<Expectations>().is_err());
}
