//! What others get wrong with the same segments and the same faults, each as a test of the right outcome.
//!
//! Owns: one test for each such case, and the whole outcome in it. Does not own: every value of every case (`rendered`),
//! every hazard (`crash`), every answer of a broker (`kafka_failures`).
//!
//! | What happens | Test |
//! |---|---|
//! | insert, update, deletion of a column and of a row, a key alone | `a_column_that_is_not_set_is_not_there_and_one_that_is_nulled_is_deleted` |
//! | a static column alone is written | `static_columns_alone_are_an_event` |
//! | a static column is written with a row | `static_values_written_with_a_row_are_told_with_it` |
//! | a static column is deleted | `deleting_static_columns_is_an_event` |
//! | a range of rows is deleted | `a_range_deletion_has_typed_bounds_and_goes_where_its_rows_go` |
//! | a range without an end; two that meet in a batch | `ranges_that_meet_keep_their_bounds_and_times` |
//! | a partition is deleted, and written again, in one batch | `a_deletion_and_the_insert_behind_it_are_one_event_with_a_time_each` |
//! | counters | `counters_are_events_with_what_each_host_counted` |
//! | an element is removed from a set | `an_element_removed_from_a_set_is_told_as_deleted` |
//! | an element is added to a set; a set is overwritten | `adding_to_a_set_and_overwriting_it_differ` |
//! | the same with lists and maps | `lists_and_maps_tell_appended_overwritten_and_deleted_elements_apart` |
//! | a table with a user type | `a_table_with_user_types_is_read_like_any_other` |
//! | the same in a segment that grows, and after a restart | `an_entry_that_can_not_be_decoded_costs_no_other_one_in_a_segment_that_grows` |
//! | a batch with tables with and without CDC | `a_batch_with_tables_without_cdc_loses_nothing_of_the_others` |
//! | a column is dropped before its data is read | `data_of_a_column_that_was_dropped_since_is_told` |
//! | a TTL; a conditional write | `a_ttl_is_told_with_its_expiry_and_a_conditional_write_once` |
//! | `varint`, `duration`, `date`, `inet` | `varints_durations_dates_and_addresses_are_told_exactly` |
//! | keyspaces and tables are made while it runs | `tables_made_while_it_runs_are_known_from_the_log` |
//! | an exception at one entry of a segment that grows | `an_entry_that_can_not_be_decoded_costs_no_other_one_in_a_segment_that_grows` |
//! | one bad bit in a mutation | `a_bad_bit_in_a_mutation_holds_and_costs_that_one_alone` |
//! | one bad bit in a length | `a_bad_bit_in_a_length_holds_and_costs_its_section_alone` |
//! | one bad bit in a section marker | `a_bad_bit_in_a_section_marker_holds_with_few_words_and_costs_its_section_alone` |
//! | the broker stops in mid-segment, and comes back | `a_broker_that_stops_in_mid_segment_costs_nothing` |
//! | a kill at the end of a segment | `a_kill_at_the_end_of_a_segment_loses_nothing` |
//! | a termination in mid-segment | `a_termination_in_mid_segment_loses_nothing_and_repeats_nothing` |
//! | a normal end | `a_segment_goes_when_kafka_has_all_of_it_and_not_before` |
//! | Cassandra does not answer | `a_node_that_does_not_answer_keeps_nothing_back` |

#![allow(unreachable_pub, reason = "modules of one test")]

#[path = "../crash/agent.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod agent;
mod faults;
#[path = "../crash/mutations.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod mutations;
#[path = "../crash/node.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod node;
#[path = "../crash/random.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod random;
mod scene;
#[path = "../crash/segment.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod segment;
mod statements;
#[path = "../support/mod.rs"]
mod support;
