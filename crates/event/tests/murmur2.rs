//! The hash against `org.apache.kafka.common.utils.Utils` of kafka-clients 4.1.1.

use cassandra_event::{murmur2, partition};

#[test]
fn hashes_and_partitions_are_javas() {
    let lines = include_str!("murmur2.txt").lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let fields: Vec<&str> = line.split(' ').collect();
        let [key, hash, of_12, of_7] = fields.as_slice() else { panic!("{line}") };
        let digits = key.trim_matches('-');
        let key: Vec<u8> =
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
        let hash = u32::from_str_radix(hash, 16).unwrap();
        assert_eq!(murmur2(&key), hash, "{line}");
        assert_eq!(partition(hash, 12).to_string(), *of_12, "{line}");
        assert_eq!(partition(hash, 7).to_string(), *of_7, "{line}");
        count += 1;
    }
    assert!(count > 190);
    assert_eq!(partition(7, 0), 0);
}
