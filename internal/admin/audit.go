package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"golang.org/x/sys/unix"
)

// Auditor is what a Handler has that keeps account of who changed what.
type Auditor interface {
	// Audit is called before a request that changes something is worked on; what it returns is called with the outcome.
	Audit(who Caller, verb, request string) (done func(err error))
}

// Caller is who asked: a process on this host, known by its socket, or another node that passes the request of one on.
type Caller struct {
	UID, GID, PID int
	Known         bool   // UID, GID and PID are the kernel's word
	Node          string // that passed the request on
	For           string // whom, as that node says
}

// String names the caller: "uid 1000 pid 4711", or "node a for uid 1000 pid 4711".
func (c Caller) String() string {
	switch {
	case c.Node != "":
		return fmt.Sprintf("node %s for %s", c.Node, c.For)
	case c.Known:
		return fmt.Sprintf("uid %d pid %d", c.UID, c.PID)
	}
	return "unknown"
}

// headerCaller carries Caller.String between nodes, whose connection says which node it is.
const headerCaller = "X-Repld-Caller"

type callerKey struct{}

// WithCaller puts who is at the other end into the context of a connection's requests: for http.Server.ConnContext.
func WithCaller(ctx context.Context, c net.Conn) context.Context {
	who := Caller{}
	if cred, err := PeerCred(c); err == nil {
		who = Caller{UID: int(cred.Uid), GID: int(cred.Gid), PID: int(cred.Pid), Known: true}
	} else if p, ok := c.(interface{ PeerNode() string }); ok {
		who.Node = p.PeerNode()
	}
	return context.WithValue(ctx, callerKey{}, who)
}

// CallerOf returns who asked.
func CallerOf(ctx context.Context) Caller {
	who, _ := ctx.Value(callerKey{}).(Caller)
	return who
}

// Forward notes on a request to another node for whom it is.
func Forward(ctx context.Context, r *http.Request) {
	r.Header.Set(headerCaller, CallerOf(ctx).String())
}

// caller is who asked, with the word of a node that passes the request on. Nobody but a node is believed that word.
func caller(r *http.Request) Caller {
	who := CallerOf(r.Context())
	if who.Node != "" {
		who.For = r.Header.Get(headerCaller)
		if len(who.For) > 200 {
			who.For = who.For[:200]
		}
	}
	return who
}

// PeerCred asks the kernel who is at the other end of a unix socket.
func PeerCred(c net.Conn) (*unix.Ucred, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("connection of type %T has no peer credentials", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return nil, err
	}
	return cred, cerr
}
