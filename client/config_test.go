package client

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a client finds in the configuration file of a node on its host.
func TestFromConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("secret", "s3cret\n")
	for name, x := range map[string]struct{ text, addrs, sentinels, name, password string }{
		"alone": {"cluster: x\nnode: a\ndata: d\n", dir + "/d/client.sock", "", "", ""},
		"three": {`
cluster: shop
node: a
data: /var/lib/repld
unknown_to_clients: {x: [1]}
peers:
  - {name: a, addr: "192.0.2.11:7600"}
  - {name: b, addr: "192.0.2.12:7600"}
  - {name: c, addr: "192.0.2.13:7600", client: "198.51.100.3:7000", mode: lagged}
  - {name: w, addr: "192.0.2.14:7600", role: witness}
client: {socket: run/c.sock, tcp: "192.0.2.11:6379", password_file: secret, tls_cert: a.crt}
sentinel: {listen: ":26379"}
`, dir + "/run/c.sock 192.0.2.11:6379 192.0.2.12:6379 198.51.100.3:7000", "127.0.0.1:26379", "shop", "s3cret"},
		"loopback": {"cluster: x\nnode: a\npeers: [{name: a, addr: 'h1:1'}, {name: b, addr: 'h2:1', client: /run/b.sock}]\nclient: {socket: /s, tcp: '127.0.0.1:6379'}\nsentinel: {listen: ':1', announce: 'h1:2', name: g}",
			"/s 127.0.0.1:6379", "h1:2", "g", ""},
		"witness": {"cluster: x\nnode: w\ndata: d\nrole: witness\npeers: [{name: w, addr: 'h:1', role: witness}, {name: a, addr: 'h1:1', client: 'h1:6379'}]", "h1:6379", "", "", ""},
	} {
		o, err := FromConfig(write("repld.yml", x.text))
		if err != nil || strings.Join(o.Addrs, " ") != x.addrs || strings.Join(o.Sentinels, " ") != x.sentinels || o.Name != x.name || o.Password != x.password || (o.TLS != nil) != strings.Contains(x.text, "tls_cert") {
			t.Errorf("%s: %+v, %v", name, o, err)
			continue
		}
		c, err := New(o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	for name, text := range map[string]string{"no yaml": "\t", "nothing": "cluster: x", "no password": "data: /d\nclient: {password_file: none}", "a list": "[1]"} {
		if o, err := FromConfig(write("bad.yml", text)); err == nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
	if _, err := FromConfig(dir + "/none.yml"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
