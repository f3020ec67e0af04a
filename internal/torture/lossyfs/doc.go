// Package lossyfs is a FUSE file system for tests that forgets what was not synced. Files lie in a directory below it; what is written stays in this process until the
// file is synced, and is then written there. So the directory below always is the disk, and
//
//	Cut        loses the writes that were not synced: all of them, or any of them in any order, or a part of one (a power cut)
//	FailSync   has the next sync of some file fail with EIO, and drops what it should have made durable, as Linux drops the pages
//	SlowSync   makes each sync last
//
// Names are durable at once: a lost directory entry or rename is what the ext4 of the power scenarios is for (FAULTS D21, D22). Whoever cuts stops the threads of the
// processes that use it first: a system call that is under way has not returned yet.
//
// It takes root and /dev/fuse (Available says why not).
package lossyfs
