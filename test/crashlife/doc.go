// Package crashlife holds the tests of whole nodes on failing disks: one scripted life is recorded, operation by operation; then the power is cut at each
// of its operations, with each policy of what becomes of unsynced changes, and what is left must start again with all that was acked or promised.
//
// A normal run does as many cases, in random order, as its time allows, and says how many; NIGHTLY=1 does all of them. CRASHLIFE_KEEP=directory keeps the image
// of a case that failed, for replctl verify and for a person; CRASHLIFE_LOG=1 shows the logs of all nodes.
package crashlife
