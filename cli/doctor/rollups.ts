import { type Check, ok, warn } from './check.ts'

const lateSeconds = 1800

/** How far the rollups are behind what is stored. */
export const rollups: Check = {
  name: 'rollups',
  async run({ database, postgres }) {
    if (database === undefined) return [ok('not looked at: the embedded Postgres does not run')]
    const pool = await postgres()
    const exists = await pool.query<{ there: boolean }>("select to_regclass('rollup_state') is not null as there")
    if (!exists.rows[0]?.there)
      return [warn('not checked: there is no table "rollup_state" yet', undefined, 'npx fleetbridge init')]
    const { rows } = await pool.query<{ behind: number | null; marks: number }>(
      `select (select extract(epoch from clock_timestamp() - min(processed_until)) from rollup_state)::float8 as behind,
         (select count(*) from (select from rollup_dirty limit 100000) marks)::int as marks`,
    )
    const { behind, marks } = rows[0] as { behind: number | null; marks: number }
    if (behind === null) return [ok('none yet: a worker computes them as readings come')]
    if (behind < lateSeconds) return [ok(`${Math.round(behind)} s behind what is stored`)]
    return [
      warn(
        `${Math.round(behind / 60)} min behind what is stored, ${marks >= 100_000 ? 'over ' : ''}${marks} marks wait: queries compute them each time`,
        'A worker computes them: start one, or see in its log what stops it (docs/runbook.md "Rollups are behind").',
      ),
    ]
  },
}
