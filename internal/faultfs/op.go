package faultfs

import (
	"fmt"
	"sync/atomic"
)

// Kind is what an operation does.
type Kind uint8

// Kinds of operations. Those up to OpDrop change a Disk and are crash points; the others only pass through an FS.
const (
	OpCreate    Kind = iota + 1 // a new name for a new file
	OpMkdir                     // one directory
	OpLink                      // Path is the old name, To the new one
	OpRename                    // Path is the old name, To the new one
	OpRemove                    // one name
	OpWrite                     // Length bytes at Offset
	OpSync                      // a file's data or a directory's names
	OpDrop                      // a failed sync forgot what it should have written
	OpOpen                      // for reading
	OpOpenWrite                 // for reading and writing
	OpOpenDir                   // for syncing
	OpRead                      // up to Length bytes at Offset
	OpSyncTo                    // a hint; makes nothing durable
	OpReuse                     // Path is the old name, To the new one
	OpRemoveAll                 // Path and all below it
	OpStat                      // by name or by file
	OpList                      // names in a directory
	OpLock                      // against other processes
	OpClose                     // of a file
	OpAllocate                  // preallocation
	OpDiskUsage                 // free space
)

var kindNames = [...]string{"", "create", "mkdir", "link", "rename", "remove", "write", "sync", "drop", "open", "open-write", "open-dir", "read", "sync-to",
	"reuse", "remove-all", "stat", "list", "lock", "close", "allocate", "disk-usage"}

// String returns the kind's name.
func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kindNames[k]
}

// Op is one operation.
type Op struct {
	Index  int    // in the trace; on a Disk that of its Clock
	Kind   Kind   // what it does
	Path   string // the file's name when it was opened, or the name operated on
	To     string // second name of OpLink, OpRename, OpReuse
	Offset int64  // bytes
	Length int    // bytes
}

// String describes the operation in one line.
func (o Op) String() string {
	s := fmt.Sprintf("#%d %s %s", o.Index, o.Kind, o.Path)
	if o.To != "" {
		s += " to " + o.To
	}
	if o.Kind == OpWrite || o.Kind == OpRead {
		s += fmt.Sprintf(" [%d,+%d)", o.Offset, o.Length)
	}
	return s
}

// Clock numbers the operations of one or more Disks, so that one number names one moment of all of them.
type Clock struct{ n atomic.Int64 }

// Now returns the index of the next operation: all with a lower one have happened.
func (c *Clock) Now() int { return int(c.n.Load()) }

func (c *Clock) tick() int { return int(c.n.Add(1)) - 1 }
