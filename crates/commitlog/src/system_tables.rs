//! The tables that Cassandra keeps for itself, by the ids that it computes from their names (`FORMAT.md` 8.1).
//!
//! Owns: their names and ids, those of past releases included. Does not own: what their rows mean.
//!
//! An update of a table that no schema defines can be told to be of no interest only by its id: the definitions of a
//! node's own tables are not in every schema file, and some tables of an old release are gone from a new one's schema.

use crate::schema::TableId;

/// Keyspace and table behind a computed id: the name-based UUID of the two names put together.
pub fn system_table(id: TableId) -> Option<(&'static str, &'static str)> {
    let at = SYSTEM_TABLES.binary_search_by_key(&id.0, |(id, _, _)| *id).ok()?;
    SYSTEM_TABLES.get(at).map(|(_, keyspace, table)| (*keyspace, *table))
}

/// In the order of their ids.
#[rustfmt::skip]
const SYSTEM_TABLES: &[(u128, &str, &str)] = &[
    (0x0290_003c_977e_397c_ac3e_fdfd_c01d_626b, "system", "batchlog"),
    (0x0308_0a13_c01d_32e3_ba37_8f8f_bc73_febf, "system", "consensus_migration_state"),
    (0x0359_bc71_7123_3ee1_9a4a_b9df_b11f_c125, "system", "schema_triggers"),
    (0x0bd4_7a48_d6ba_3c8e_b442_0f63_4932_9bda, "system_auth", "identity_to_role"),
    (0x0e65_065f_e401_38ed_9507_b921_3fae_8d11, "system", "peer_events_v2"),
    (0x0ecd_aa87_f8fb_3e60_88d1_74fb_36fe_5c0d, "system_auth", "role_members"),
    (0x0feb_57ac_311f_382f_ba6d_9024_d305_702f, "system_schema", "indexes"),
    (0x1064_e0a0_1f2c_3a17_b803_cb8e_23d8_458f, "system_auth", "credentials"),
    (0x176c_39cd_b93d_33a5_a218_8eb0_6a56_f66e, "system", "table_estimates"),
    (0x18a9_c257_6a0c_3841_ba71_8cd5_2984_9fef, "system", "prepared_statements"),
    (0x1ff7_8f1a_7df1_3a2a_a998_6f49_3227_0af5, "system", "transferred_ranges_v2"),
    (0x2410_1c25_a2ae_3af7_87c1_b40e_e1ac_a33f, "system_schema", "columns"),
    (0x2666_e205_73ef_38b3_90fe_fecf_96e8_f0c7, "system", "hints"),
    (0x296e_9c04_9bec_3085_827d_c17d_3df2_122a, "system", "schema_columns"),
    (0x2d32_4e48_3275_3517_8dd5_9a2c_5b08_56c5, "system_auth", "permissions"),
    (0x37f7_1aca_7dc2_383b_a706_7252_8af0_4d4f, "system", "peers"),
    (0x3aa7_5225_4f82_350b_8d5c_430f_a221_fa0a, "system", "schema_usertypes"),
    (0x3afb_e79f_2194_31a7_add7_f5ab_90d8_ec9c, "system_auth", "role_permissions"),
    (0x4224_a088_2ac9_3d0c_889d_fbb5_f0fa_cda0, "system", "available_ranges_v2"),
    (0x45f5_b360_24bc_3f83_a363_1034_ea4f_a697, "system", "schema_columnfamilies"),
    (0x4735_88ad_9c79_38be_8b59_e06c_1045_6ba0, "system_auth", "users"),
    (0x4b3c_50a9_ea87_3d76_9101_6dbc_9c38_494a, "system", "built_views"),
    (0x4df7_0b66_6b05_3251_95a1_32b5_4005_fd48, "system_schema", "triggers"),
    (0x5388_b052_bf9f_31c7_9ef3_fd7f_934a_0127, "system_distributed", "compression_dictionaries"),
    (0x5508_0ab0_5d9c_3886_90a4_acb2_5fe1_f77b, "system", "compactions_in_progress"),
    (0x5582_b59f_8e4e_35e1_b913_3aca_da51_eb04, "system_distributed", "view_build_status"),
    (0x55d7_6438_4e55_3f8b_9f6e_676d_4af3_976d, "system", "range_xfers"),
    (0x59df_eaea_8db2_3341_91ef_1099_74d8_1484, "system", "peer_events"),
    (0x5a1f_f267_ace0_3f12_8563_cfae_6103_c65e, "system", "sstable_activity"),
    (0x5a8b_1ca8_6602_3f77_a045_9273_d308_917a, "system_schema", "types"),
    (0x5bc5_2802_de25_35ed_aeab_188e_eceb_b090, "system_auth", "roles"),
    (0x5e75_83b5_f3f4_3af1_9a39_b7e1_d6f5_f11f, "system_schema", "dropped_columns"),
    (0x5f2f_bdad_91f1_3946_bd25_d5da_3a5c_35ec, "system_auth", "resource_role_permissons_index"),
    (0x618f_817b_005f_3678_b8a4_53f3_930b_8e86, "system", "size_estimates"),
    (0x62ef_e31f_3be8_310c_8d29_8963_439c_1288, "system", "sstable_activity_v2"),
    (0x6775_be21_7f1f_3a2f_90d5_bd31_3a15_ce78, "system", "metadata_snapshots"),
    (0x69ad_5f8c_4858_32bb_b4ca_fae9_7da9_681f, "system_distributed", "auto_repair_priority"),
    (0x6c22_df66_c3bd_3df6_b74d_2117_9c6a_9fe9, "system", "view_builds_in_progress"),
    (0x6cad_20f7_d4f5_3af2_b6e2_0da3_3c6c_1f83, "system", "transferred_ranges"),
    (0x726f_2236_7f63_3f43_8364_f84a_2547_4d5d, "system_accord", "commands_for_key"),
    (0x738c_c5ed_0168_3268_b9d1_853d_4bc2_78af, "system_schema", "column_masks"),
    (0x759f_ffad_624b_3181_80ee_fa9a_52d1_f627, "system_distributed", "repair_history"),
    (0x7ad5_4392_bcdd_35a6_8417_4e04_7860_b377, "system", "local"),
    (0x7e5a_361c_317c_351f_b15f_ffd8_afd3_dd4b, "system", "top_partitions"),
    (0x8826_e8e9_e16a_3728_8753_3bc1_fc71_3c25, "system_traces", "events"),
    (0x919a_4bc5_7a33_3573_b03e_13fc_3f68_b465, "system", "batches"),
    (0x924c_5587_2e3a_345b_b10c_12f3_7c1b_a895, "system_schema", "aggregates"),
    (0x9648_9b79_80be_3e14_a701_66a0_b915_9450, "system_schema", "functions"),
    (0x9786_ac1c_dd58_3201_a7cd_ad55_6410_c985, "system_schema", "views"),
    (0x9c48_af00_13f6_3059_bb0e_8fca_bba6_eecb, "system_auth", "cidr_groups"),
    (0x9f5c_6374_d485_3229_9a0a_5094_af9a_d1e3, "system", "IndexInfo"),
    (0xa3d2_77d1_cfaf_36f5_a2a7_38d5_eea9_ad6a, "system", "repairs"),
    (0xa5fc_57fc_9d6c_3bfd_a3fc_01ad_5468_6fea, "system", "schema_aggregates"),
    (0xabac_5682_dea6_31c5_b535_b3d6_cffd_0fb6, "system_schema", "keyspaces"),
    (0xafdd_fb9d_bc1e_3068_8056_eed6_c302_ba09, "system_schema", "tables"),
    (0xb0f2_2357_4458_3cdb_9631_c43e_59ce_3676, "system", "schema_keyspaces"),
    (0xb4db_b7b4_dc49_3fb5_b3bf_ce6e_4348_32ca, "system", "compaction_history"),
    (0xb7b7_f0c2_fd0a_3410_8c05_3ef6_14bb_7c2d, "system", "paxos"),
    (0xb7f2_c108_78cd_3c80_9cd5_d609_b2bd_149c, "system", "views_builds_in_progress"),
    (0xb8b4_3d5f_d6c0_331c_8f7d_765e_a658_f4c4, "system_auth", "cidr_permissions"),
    (0xba9d_8975_0bec_3335_bc4b_8b2f_fa4f_f93b, "system_distributed", "auto_repair_history"),
    (0xc341_2dba_c292_3051_b791_4f7b_0b79_a166, "system_accord", "journal"),
    (0xc432_5fbb_8e5e_3baf_bd07_0f92_50ed_818e, "system", "peers_v2"),
    (0xc539_fcab_d65a_31d1_8133_d256_0564_3ee3, "system", "available_ranges"),
    (0xc5e9_9f16_8677_3914_b17e_9606_1351_2345, "system_traces", "sessions"),
    (0xd1b6_75fe_2b50_3ca4_8e49_c0f8_1989_dcad, "system", "schema_functions"),
    (0xd467_80c2_2f1c_3db9_b4c1_b8d9_fbc0_cc23, "system_auth", "network_permissions"),
    (0xd612_3acc_8649_3496_9d4e_f3fe_39a6_018b, "system_distributed", "partition_denylist"),
    (0xd885_727a_f67b_3a32_951b_78ef_e9c7_5732, "system_cluster_metadata", "distributed_metadata_log"),
    (0xdeab_d734_b99d_3b9c_92e5_fd92_eb5a_bf14, "system_distributed", "parent_repair_history"),
    (0xe4dd_d16e_bea6_31f4_8361_e88f_07af_8d4e, "system", "local_metadata_log"),
    (0xecb8_6667_40b2_3316_bb91_e612_c804_7457, "system", "paxos_repair_history"),
];

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use serde_json::Value;

    use super::*;

    #[test]
    fn ids_are_computed_from_names_and_in_order() {
        for (id, keyspace, table) in SYSTEM_TABLES {
            let mut digest = md5(&[keyspace.as_bytes(), table.as_bytes()].concat());
            digest[6] = digest[6] & 0x0f | 0x30;
            digest[8] = digest[8] & 0x3f | 0x80;
            assert_eq!(TableId(u128::from_be_bytes(digest)), TableId(*id), "{keyspace}.{table}");
        }
        assert!(SYSTEM_TABLES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn ids_give_names() {
        assert_eq!(system_table(TableId(0x24101c25_a2ae_3af7_87c1_b40ee1aca33f)), Some(("system_schema", "columns")));
        assert_eq!(system_table(TableId(0x7ad54392_bcdd_35a6_8417_4e047860b377)), Some(("system", "local")));
        assert_eq!(system_table(TableId(0)), None);
    }

    #[test]
    fn every_system_table_of_recorded_schemas_is_known() {
        for (path, text) in crate::recorded_schemas::all() {
            let schema: Value = serde_json::from_str(&text).unwrap();
            for row in schema["tables"].as_array().unwrap() {
                let (keyspace, table) = (row["keyspace_name"].as_str().unwrap(), row["table_name"].as_str().unwrap());
                let id = u128::from_str_radix(&row["id"].as_str().unwrap().replace('-', ""), 16).unwrap();
                let expected = keyspace.starts_with("system").then_some((keyspace, table));
                assert_eq!(system_table(TableId(id)), expected, "{path}");
            }
        }
    }

    /// MD5 of less than a block less its padding: enough for a name, and no dependency for one test.
    fn md5(text: &[u8]) -> [u8; 16] {
        assert!(text.len() < 56);
        let mut block = [0_u8; 64];
        block[..text.len()].copy_from_slice(text);
        block[text.len()] = 0x80;
        block[56..].copy_from_slice(&(text.len() as u64 * 8).to_le_bytes());
        let words: Vec<u32> = block.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
        let start = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
        let [mut a, mut b, mut c, mut d] = start;
        for step in 0..64_usize {
            let (mix, word) = match step / 16 {
                0 => ((b & c) | (!b & d), step),
                1 => ((d & b) | (!d & c), 5 * step + 1),
                2 => (b ^ c ^ d, 3 * step + 5),
                _ => (c ^ (b | !d), 7 * step),
            };
            let turn = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]][step / 16][step % 4];
            let sine = SINES[step];
            let sum = a.wrapping_add(mix).wrapping_add(sine).wrapping_add(words[word % 16]);
            (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(turn)));
        }
        let mut digest = [0; 16];
        for (at, (end, start)) in [a, b, c, d].into_iter().zip(start).enumerate() {
            digest[at * 4..][..4].copy_from_slice(&end.wrapping_add(start).to_le_bytes());
        }
        digest
    }

    #[rustfmt::skip]
    const SINES: [u32; 64] = [
        0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
        0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
        0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
        0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
        0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
        0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
        0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
        0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
    ];
}
