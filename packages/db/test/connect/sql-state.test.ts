import { describe, expect, test } from "vitest";
import { faultOfSqlState, type Fault } from "../../src/connect/database-error.ts";

const MEANINGS: readonly (readonly [sqlState: string, name: string, fault: Fault])[] = [
  ["08000", "connection_exception", "unavailable"],
  ["08006", "connection_failure", "unavailable"],
  ["53100", "disk_full", "unavailable"],
  ["53300", "too_many_connections", "unavailable"],
  ["57014", "query_canceled", "slow"],
  ["57P01", "admin_shutdown", "unavailable"],
  ["57P03", "cannot_connect_now", "unavailable"],
  ["58030", "io_error", "unavailable"],
  ["40001", "serialization_failure", "unavailable"],
  ["40P01", "deadlock_detected", "unavailable"],
  ["55000", "object_not_in_prerequisite_state", "unavailable"],
  ["55P03", "lock_not_available", "slow"],
  ["25006", "read_only_sql_transaction", "unavailable"],
  ["25P04", "transaction_timeout", "slow"],
  ["22001", "string_data_right_truncation", "data"],
  ["22003", "numeric_value_out_of_range", "data"],
  ["22P02", "invalid_text_representation", "data"],
  ["22P05", "untranslatable_character", "data"],
  ["23502", "not_null_violation", "data"],
  ["23505", "unique_violation", "data"],
  ["54000", "program_limit_exceeded", "data"],
  ["54001", "statement_too_complex", "data"],
  ["42P01", "undefined_table", "unmigrated"],
  ["42703", "undefined_column", "unmigrated"],
  ["42P10", "invalid_column_reference", "unmigrated"],
  ["3F000", "invalid_schema_name", "unmigrated"],
  ["42501", "insufficient_privilege", "denied"],
  ["28P01", "invalid_password", "denied"],
  ["28000", "invalid_authorization_specification", "denied"],
  ["3D000", "invalid_catalog_name", "denied"],
  ["0A000", "feature_not_supported", "unavailable"],
  ["25P03", "idle_in_transaction_session_timeout", "unavailable"],
  ["26000", "invalid_sql_statement_name", "unavailable"],
  ["44000", "with_check_option_violation", "data"],
  ["72000", "snapshot_too_old", "unavailable"],
  ["F0000", "config_file_error", "unavailable"],
  ["HV00N", "fdw_unable_to_establish_connection", "unavailable"],
  ["XX001", "data_corrupted", "unavailable"],
  ["XX002", "index_corrupted", "unavailable"],
  ["P0001", "raise_exception", "unknown"],
  ["38000", "external_routine_exception", "unknown"],
  ["21000", "cardinality_violation", "unknown"],
  ["XX000", "internal_error", "unknown"],
];

describe("an SQLSTATE", () => {
  test.each(MEANINGS)("%s (%s) means %s", (sqlState, _name, fault) => {
    expect(faultOfSqlState(sqlState)).toBe(fault);
  });
});
