package server

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

var hashed = sha256.Sum256([]byte("r"))

var aclText = `
# who may do what
user shop on >s1 >s2 ~cart:* %R~price:* %W~log:* +@read +@write +@connection +@transaction +acl|whoami -flushall -client|kill
user report on #` + hex.EncodeToString(hashed[:]) + ` allkeys +@read +@connection +acl|whoami
user root on >root allkeys +@all
user gone off >g ~* +@all
`

func parseACL(t *testing.T, text string) *ACL {
	t.Helper()
	a, err := ParseACL(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestACL is the matrix of users, commands and keys (FAULTS section 4): what one may do, and what is refused before anything is executed or queued.
func TestACL(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t), ACL: parseACL(t, aclText)})
	const noKey = "-" + errNoPermKeys
	no := func(cmd string) string { return "-" + strings.Replace(errNoPermCommand, "%s", cmd, 1) }
	p := dial(t, path)
	for _, x := range []struct{ send, want string }{
		{"GET cart:1", "-NOAUTH Authentication required."}, {"ACL WHOAMI", "-NOAUTH Authentication required."},
		// Nobody is "default" here: no password was set for it.
		{"AUTH x", "-" + errWrongPass}, {"AUTH default x", "-" + errWrongPass}, {"AUTH gone g", "-" + errWrongPass}, {"AUTH nobody x", "-" + errWrongPass},
		{"AUTH shop s", "-" + errWrongPass}, {"AUTH report s1", "-" + errWrongPass}, {"AUTH shop s2", "+OK"}, {"ACL WHOAMI", `"shop"`},
		{"SET cart:1 a", "+OK"}, {"GET cart:1", `"a"`}, {"SET other 1", noKey}, {"DEL cart:1 other", noKey}, {"GET cart:1", `"a"`},
		{"GET price:1", "nil"}, {"SET price:1 2", noKey}, {"INCR price:1", noKey}, {"SET log:1 x", "+OK"}, {"SET log:1 x GET", noKey}, {"GET log:1", noKey}, {"APPEND log:1 y", ":2"}, {"INCR log:1", noKey},
		{"EXISTS price:1 log:1", ":1"}, {"EXISTS other", noKey}, {"RENAME price:1 cart:9", noKey}, {"COPY price:1 cart:9", ":0"}, {"COPY cart:1 price:1", noKey},
		{"FLUSHALL", no("flushall")}, {"CONFIG GET maxmemory", no("config|get")}, {"CLIENT KILL ID 1", no("client|kill")}, {"ACL LIST", no("acl|list")}, {"KV.RANGE - +", noKey},
		// The commands inside are looked at, too.
		{"REPLD.ONCE i 1000 SET cart:2 b", "+OK"}, {"REPLD.ONCE j 1000 SET other b", noKey}, {"REPLD.ONCE k 1000 FLUSHALL", no("flushall")}, {"REPLD.RECEIPT SET other b", noKey},
		{"REPLD.RECEIPT REPLD.ONCE l 1000 FLUSHALL", no("flushall")}, {"REPLD.ONCE m 1000 NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with:"},
		{"REPLD.ONCE n 1000 REPLD.ONCE o 1000 SET other b", noKey},
		// A transaction with a command that is refused is not executed.
		{"MULTI", "+OK"}, {"SET cart:1 c", "+QUEUED"}, {"SET other c", noKey}, {"EXEC", "-EXECABORT Transaction discarded because of previous errors."}, {"GET cart:1", `"a"`},
		{"HELLO 3 AUTH report s1", "-" + errWrongPass}, {"ACL WHOAMI", `"shop"`}, {"AUTH report r", "+OK"}, {"ACL WHOAMI", `"report"`},
		{"GET cart:1", `"a"`}, {"SET cart:1 d", no("set")}, {"REPLD.ONCE p 1000 SET cart:1 d", no("repld.once")}, {"KV.RANGE cart:1 cart:2", `["cart:1" "a"]`},
		{"ACL CAT nosuch", no("acl|cat")}, {"RESET", "+RESET"}, {"GET cart:1", "-NOAUTH Authentication required."},
	} {
		if got := strings.TrimSpace(p.do(x.send)); got != x.want {
			t.Errorf("%s: got %s, want %s", x.send, got, x.want)
		}
	}
	q := dial(t, path)
	if got := q.do("HELLO 3 AUTH shop s1 SETNAME till"); !strings.HasPrefix(got, "{") {
		t.Errorf("HELLO with a user: %s", got)
	}
	if got := q.do("CLIENT INFO"); !strings.Contains(got, "user=shop ") {
		t.Error(got)
	}
	// One pipeline: the user that AUTH chose counts for what follows it.
	r := dial(t, path)
	expect(t, r.pipeline("AUTH shop s1", "SET cart:3 x", "AUTH report r", "SET cart:3 y", "GET cart:3"), "+OK", "+OK", "+OK", no("set"), `"x"`)
}

// With a password "default" may do everything, shows the rules without passwords, and finds connections by their user. Nobody changes users.
func TestACLBesideDefault(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t), Password: "d", ACL: parseACL(t, aclText)})
	p, shop := dial(t, path), dial(t, path)
	if got := shop.do("AUTH shop s1"); got != "+OK" {
		t.Fatal(got)
	}
	for _, x := range []struct{ send, want string }{
		{"AUTH d", "+OK"}, {"ACL WHOAMI", `"default"`}, {"ACL USERS", `["default" "shop" "report" "root" "gone"]`}, {"ACL SETUSER x on", "-ERR users are not changed by clients: the operator edits client.acl_file and has the node read it again"},
		{"ACL CAT nosuch", "-ERR Unknown category 'nosuch'"}, {"ACL CAT transaction", `["multi" "exec" "discard" "watch" "unwatch"]`},
		{"CLIENT KILL USER nobody", "-ERR No such user 'nobody'"}, {"CLIENT KILL USER report", ":0"}, {"CLIENT KILL USER shop", ":1"}, {"SET any 1", "+OK"}, {"FLUSHALL", "+OK"},
	} {
		if got := p.do(x.send); got != x.want {
			t.Errorf("%s: got %s, want %s", x.send, got, x.want)
		}
	}
	shop.ended()
	if got := p.do("ACL LIST"); strings.Contains(got, "s1") || strings.Contains(got, hex.EncodeToString(hashed[:])) || !strings.Contains(got, "user shop on >*** >*** ~cart:* %R~price:*") {
		t.Error(got)
	}
}

// A file that is read again is in force at once: users who are gone or changed are disconnected, the others stay, new ones are let in.
func TestACLReadAgain(t *testing.T) {
	s, path := startServer(t, Options{Backend: newFake(t), Password: "d", ACL: parseACL(t, "user keeps on >k ~* +@all\nuser goes on >g ~* +@all\nuser less on >l ~* +@all")})
	login := func(name, password string) *peer {
		t.Helper()
		p := dial(t, path)
		if got := p.do("AUTH " + name + " " + password); got != "+OK" {
			t.Fatalf("%s: %s", name, got)
		}
		return p
	}
	keeps, goes, less, root := login("keeps", "k"), login("goes", "g"), login("less", "l"), login("default", "d")
	if n := s.SetACL(parseACL(t, "user keeps on >k ~* +@all\nuser less on >l ~* +@read\nuser new on >n ~* +@all")); n != 2 {
		t.Errorf("%d connections closed, want two", n)
	}
	goes.ended()
	less.ended()
	for _, p := range []*peer{keeps, root, login("new", "n")} {
		if got := p.do("SET a 1"); got != "+OK" {
			t.Error(got)
		}
	}
	if got := login("less", "l").do("SET a 2"); !strings.HasPrefix(got, "-NOPERM") {
		t.Error(got)
	}
	if got := dial(t, path).do("AUTH goes g"); got != "-"+errWrongPass {
		t.Error(got)
	}
}

// A rule that is not understood is refused, never passed over; so is a user whom anybody could be.
func TestParseACL(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "no user",
		"user":                      "a line is",
		"usr a on >x":               "a line is",
		"user a on":                 "no password",
		"user a on nopass +@all":    "nopass",
		"user a on >x +@nosuch":     "no command or category",
		"user a on >x +nosuch":      "no command or category",
		"user a on >x +get|x":       "no command or category",
		"user a on >":               "empty password",
		"user a on #12":             "SHA-256",
		"user a on >x %~a":          "none of",
		"user a on >x %X~a":         "none of",
		"user a on >x (~a +get)":    "not known here",
		"user a on >x clearselect":  "not known here",
		"user a off\nuser a off":    "line 2: user a is there twice",
		"user \x01 off":             "a line is",
		"user " + longName + " off": "a line is",
	} {
		if a, err := ParseACL(text); !errors.Is(err, ErrACL) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", text, a, err, want)
		}
	}
	a := parseACL(t, "user a on >x allkeys allcommands -@dangerous +info\nuser b on >y ~a resetkeys %rw~b +client -client|kill +@hash")
	for _, x := range []struct {
		user, cmd string
		may       bool
	}{{"a", "get", true}, {"a", "flushall", false}, {"a", "info", true}, {"a", "config|set", false}, {"b", "client|list", true}, {"b", "client|kill", false}, {"b", "get", false}} {
		if a.users[x.user].commands[x.cmd] != x.may {
			t.Errorf("%s %s: %t", x.user, x.cmd, !x.may)
		}
	}
	if u := a.users["b"]; u.mayKey([]byte("a"), true, false) || !u.mayKey([]byte("b"), true, true) {
		t.Error("resetkeys")
	}
}

var longName = strings.Repeat("n", longestUser+1)

// What a standby has the active execute is held to the same rules: they are the rules of the node to which the client is connected.
func TestForwardObeysACL(t *testing.T) {
	f := &fakeForwarder{changed: make(chan struct{}), open: nobody}
	b := newFake(t)
	away(b)
	_, path := startServer(t, Options{Backend: b, Forward: f, ForwardWait: 30 * time.Second, ACL: parseACL(t, aclText)})
	_, open := activeNode(t)
	f.set(false, func() (net.Conn, error) { return open() })
	p := dial(t, path)
	expect(t, p.pipeline("AUTH shop s1", "SET cart:1 a", "SET other b", "REPLD.ONCE i 1000 SET other b", "GET cart:1"),
		"+OK", "+OK", "-"+errNoPermKeys, "-"+errNoPermKeys, `"a"`)
	expect(t, p.pipeline("MULTI", "SET cart:1 z", "SET other z", "EXEC", "GET cart:1"),
		"+OK", "+QUEUED", "-"+errNoPermKeys, "-EXECABORT Transaction discarded because of previous errors.", `"a"`)
	expect(t, p.pipeline("AUTH root root", "DBSIZE"), "+OK", ":1")
}

func FuzzParseACL(f *testing.F) {
	f.Add(aclText)
	f.Add("user a on >x %RW~a allkeys +@all -get")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseACL(text)
		if err != nil {
			return
		}
		for _, u := range a.users {
			if u.on && len(u.passwords) == 0 {
				t.Errorf("%q lets anybody be %s", text, u.name)
			}
		}
	})
}
