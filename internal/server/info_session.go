package server

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// sessionInfo is what other sessions may see of one, for CLIENT LIST and KILL.
type sessionInfo struct {
	// Fixed.
	id          int64
	addr, laddr string
	unix        bool
	created     time.Time

	// Set by the session, read by all.
	lastActive atomic.Int64 // unix ns
	lastCmd    atomic.Pointer[command]
	multi      atomic.Int64 // queued commands, -1 outside MULTI
	input      atomic.Int64 // bytes received of an incomplete request
	proto      atomic.Int64
	names      struct {
		sync.Mutex
		name, libName, libVer, user string
	}

	// Set by others.
	kick   atomic.Bool     // close when the running batch is done
	wake   func()          // interrupts a read and ends kicked; set before the session is listed
	kicked context.Context // ends the waiting of a blocking command
}

func (i *sessionInfo) init(id int64, addr, laddr string) {
	i.id, i.addr, i.laddr = id, addr, laddr
	i.created = time.Now()
	i.lastActive.Store(i.created.UnixNano())
	i.multi.Store(-1)
	i.proto.Store(2)
	i.names.user = "default"
	i.wake, i.kicked = func() {}, context.Background()
}

func (i *sessionInfo) command(c *command) { i.lastCmd.Store(c) }

// active is told at the end of each batch.
func (i *sessionInfo) active(now time.Time, buffered int, tx *transaction) {
	i.lastActive.Store(now.UnixNano())
	i.input.Store(int64(buffered))
	if tx.open {
		i.multi.Store(int64(len(tx.queued)))
	} else {
		i.multi.Store(-1)
	}
}

// close asks the session to end after its running batch, false if that was asked before.
func (i *sessionInfo) close() bool {
	first := !i.kick.Swap(true)
	i.wake()
	return first
}

func (i *sessionInfo) setName(name string) {
	i.names.Lock()
	defer i.names.Unlock()
	i.names.name = name
}

func (i *sessionInfo) setUser(name string) {
	i.names.Lock()
	defer i.names.Unlock()
	i.names.user = name
}

func (i *sessionInfo) user() string {
	i.names.Lock()
	defer i.names.Unlock()
	return i.names.user
}

func (i *sessionInfo) name() string {
	i.names.Lock()
	defer i.names.Unlock()
	return i.names.name
}

// line describes the session as CLIENT LIST does.
func (i *sessionInfo) line(now time.Time) string {
	i.names.Lock()
	name, libName, libVer, user := i.names.name, i.names.libName, i.names.libVer, i.names.user
	i.names.Unlock()
	cmd, flags := "NULL", "N"
	if c := i.lastCmd.Load(); c != nil {
		cmd = c.full
	}
	multi := i.multi.Load()
	if multi >= 0 {
		flags = "x"
	}
	if i.unix {
		flags += "U"
	}
	if flags == "NU" {
		flags = "U"
	}
	idle := now.Sub(time.Unix(0, i.lastActive.Load()))
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=%d name=%s age=%d idle=%d flags=%s db=0 sub=0 psub=0 ssub=0 multi=%d qbuf=%d qbuf-free=0"+
		" argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=%s user=%s redir=-1 resp=%d lib-name=%s lib-ver=%s\n",
		i.id, i.addr, i.laddr, -1, name, int64(now.Sub(i.created)/time.Second), int64(max(idle, 0)/time.Second), flags, multi,
		i.input.Load(), cmd, user, i.proto.Load(), libName, libVer)
}
