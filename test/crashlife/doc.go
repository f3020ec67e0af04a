// Package crashlife holds the tests of whole nodes on failing disks: one scripted life is recorded, operation by operation; then the power is cut at each
// of its operations, with each policy of what becomes of unsynced changes, and what is left must start again with all that was acked or promised.
package crashlife
