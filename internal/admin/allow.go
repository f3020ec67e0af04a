package admin

import (
	"net"
	"os"
	"slices"
	"time"
)

// Allow says who may connect to a unix socket, by the kernel's word. The zero value lets everybody in whom the permissions of the socket's file let in.
type Allow struct {
	Users  []int // user ids
	Groups []int // primary group ids: the kernel tells no others
}

// Permits reports whether a process may connect. Besides those who are listed, root and the node's own user always may: neither could be kept out.
func (a Allow) Permits(uid, gid int) bool {
	if len(a.Users) == 0 && len(a.Groups) == 0 {
		return true
	}
	return uid == 0 || uid == os.Geteuid() || slices.Contains(a.Users, uid) || slices.Contains(a.Groups, gid)
}

// Restrict returns a listener that closes the connections of everybody else, after sending them text. refused is told of each; it must not block.
func Restrict(l net.Listener, a Allow, text string, refused func(Caller)) net.Listener {
	if len(a.Users) == 0 && len(a.Groups) == 0 {
		return l
	}
	return &restricted{Listener: l, allow: a, text: text, refused: refused}
}

type restricted struct {
	net.Listener
	allow   Allow
	text    string
	refused func(Caller)
}

// Accept implements net.Listener.
func (r *restricted) Accept() (net.Conn, error) {
	for {
		c, err := r.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who := Caller{UID: -1, GID: -1}
		if cred, err := PeerCred(c); err == nil {
			who = Caller{UID: int(cred.Uid), GID: int(cred.Gid), PID: int(cred.Pid), Known: true}
		}
		if who.Known && r.allow.Permits(who.UID, who.GID) {
			return c, nil
		}
		r.refused(who)
		_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // the socket's buffer is empty: this does not wait
		_, _ = c.Write([]byte(r.text))
		_ = c.Close()
	}
}
