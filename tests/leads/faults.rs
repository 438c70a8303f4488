//! The validation of the endpoints of leads.

use std::sync::Arc;

use super::PATH;
use crate::harness::{World, stack_test};

fn named(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(path, code)| ((*path).to_owned(), (*code).to_owned())).collect()
}

#[stack_test]
async fn all_faults_of_a_list_request_are_reported_at_once(world: Arc<World>) {
    let account = world.account(0).await;
    let query = "businessProfileId=mine&search=%00&sortBy=score&sortOrder=up&page=0&pageSize=101&asOf=today&handle=x";
    let expected = [
        ("businessProfileId", "invalid"),
        ("search", "invalid"),
        ("sortBy", "invalid"),
        ("sortOrder", "invalid"),
        ("page", "invalid"),
        ("pageSize", "invalid"),
        ("asOf", "invalid"),
        ("handle", "unknown"),
    ];
    assert_eq!(account.get(&format!("{PATH}?{query}")).await.faults(), named(&expected));
    let id = uuid::Uuid::new_v4();
    let faults = account.get(&format!("{PATH}/{id}/analyses?limit=51&analysisType=heavy&page=1")).await.faults();
    assert_eq!(faults, named(&[("limit", "invalid"), ("analysisType", "invalid"), ("page", "unknown")]));
}

#[stack_test]
async fn parameters_out_of_bounds_are_rejected(world: Arc<World>) {
    let (account, other) = (world.account(0).await, world.account(0).await);
    let long = |length: usize| format!("search={}", "%C3%A9".repeat(length));
    for (query, name) in [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=1000001", "page"),
        ("page=99999999999999999999999", "page"),
        ("page=1.5", "page"),
        ("page=1e3", "page"),
        ("page=", "page"),
        ("page=%201", "page"),
        ("pageSize=0", "pageSize"),
        ("pageSize=101", "pageSize"),
        ("pageSize=ten", "pageSize"),
        ("sortBy=", "sortBy"),
        ("sortBy=created_at;--", "sortBy"),
        ("sortBy=CREATED_AT", "sortBy"),
        ("sortOrder=DESC", "sortOrder"),
        ("businessProfileId=", "businessProfileId"),
        ("businessProfileId=123", "businessProfileId"),
        ("search=a%00b", "search"),
        ("search=a%1Bb", "search"),
        (long(501).as_str(), "search"),
        ("asOf=2026-01-01", "asOf"),
        ("asOf=", "asOf"),
        ("asOf=1969-12-31T23:59:59Z", "asOf"),
        ("asOf=-009999-01-02T01:59:59Z", "asOf"),
        ("page=1&page=2", "page"),
        ("search=a&search=a", "search"),
    ] {
        assert_eq!(account.get(&format!("{PATH}?{query}")).await.faults(), named(&[(name, "invalid")]), "{query}");
    }
    for unknown in ["q=1", "Page=1", "page_size=2", "%00=1"] {
        let faults = account.get(&format!("{PATH}?{unknown}")).await.faults();
        assert_eq!((faults.len(), faults[0].1.as_str()), (1, "unknown"), "{unknown}");
    }
    for query in [
        "page=1&pageSize=1",
        "pageSize=100",
        "page=1000000",
        long(100).as_str(),
        "asOf=2026-01-01T00:00:00Z",
        "asOf=2026-01-01T02:00:00%2B02:00",
        "asOf=9999-12-30T22:00:00.999999999Z",
        "asOf=1970-01-01T00:00:00Z",
    ] {
        other.get(&format!("{PATH}?{query}")).await.data(200);
    }
    // Bytes that are not UTF-8 are a fault of the request and not a 500.
    let status = other.get(&format!("{PATH}?search=%ff%fe")).await.status;
    assert!(status == 200 || status == 400, "{status}");
}

#[stack_test]
async fn a_malformed_id_is_rejected(world: Arc<World>) {
    let account = world.account(0).await;
    for garbage in ["1", "x", "%00", "00000000-0000-4000-8000-00000000000", "00000000-0000-4000-8000-00000000000g", "%27%20OR%201=1", "🌿"]
    {
        for (method, path) in [
            ("GET", format!("{PATH}/{garbage}")),
            ("GET", format!("{PATH}/{garbage}/analyses")),
            ("DELETE", format!("{PATH}/{garbage}")),
            ("POST", format!("{PATH}/{garbage}/restore")),
        ] {
            let faults = account.call(method, &path, None).await.faults();
            assert_eq!(faults, named(&[("leadId", "invalid")]), "{method} {path}");
        }
    }
}
