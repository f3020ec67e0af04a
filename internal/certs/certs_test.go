package certs

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority makes a CA and certificates of nodes below a folder of its own.
func authority(t *testing.T, cluster, algorithm string, nodes ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tls")
	if _, err := InitCA(Request{Dir: dir, Cluster: cluster, Algorithm: algorithm, Now: time.Now().Add(-24 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if _, err := Issue(Request{Dir: dir, Node: n, Algorithm: algorithm}); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func files(dir, node string) Files {
	return Files{CA: filepath.Join(dir, CACert), Cert: filepath.Join(dir, node+".crt"), Key: filepath.Join(dir, node+".key")}
}

func load(t *testing.T, dir, node string) *Identity {
	t.Helper()
	id, err := Load(Options{Files: files(dir, node), Cluster: "shop", Node: node})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Everything is made 0600 in a folder 0700, and nothing that is there is replaced.
func TestMade(t *testing.T) {
	for _, algorithm := range []string{Ed25519, P256} {
		dir := authority(t, "shop", algorithm, "a")
		for _, name := range []string{CACert, CAKey, "a.crt", "a.key"} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("folder: %v, %v", info.Mode(), err)
		}
		before, err := os.ReadFile(filepath.Join(dir, "a.key"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := InitCA(Request{Dir: dir, Cluster: "other"}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("second init: %v", err)
		}
		if _, err := Issue(Request{Dir: dir, Node: "a"}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("second issue: %v", err)
		}
		if after, err := os.ReadFile(filepath.Join(dir, "a.key")); err != nil || string(after) != string(before) {
			t.Errorf("the key was replaced: %v", err)
		}
		load(t, dir, "a")
	}
}

func TestIssueRefuses(t *testing.T) {
	dir := authority(t, "shop", Ed25519)
	for _, name := range []string{"", "ca", "A", "../x", "a/b", strings.Repeat("a", 33)} {
		if _, err := Issue(Request{Dir: dir, Node: name}); err == nil {
			t.Errorf("issued for %q", name)
		}
	}
	if _, err := InitCA(Request{Dir: t.TempDir(), Cluster: "Big Shop"}); err == nil {
		t.Error("a CA for a cluster that cannot be")
	}
	if _, err := Issue(Request{Dir: dir, Node: "a", Algorithm: "rsa512"}); err == nil {
		t.Error("issued with an unknown algorithm")
	}
	if _, err := Issue(Request{Dir: dir, Node: "late", Now: time.Now().Add(2 * CAValid)}); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired authority signs: %v", err)
	}
	c, err := Issue(Request{Dir: dir, Node: "long", Valid: 2 * CAValid})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ReadCerts(filepath.Join(dir, CACert))
	if err != nil || c.NotAfter.After(ca[0].NotAfter) {
		t.Errorf("a certificate outlives its authority: %v, %v", c.NotAfter, err)
	}
	if err := os.Chmod(filepath.Join(dir, CAKey), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Issue(Request{Dir: dir, Node: "b"}); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a key that others can read signs: %v", err)
	}
}

// What does not fit is refused when it is loaded, with the file's name.
func TestLoadRefuses(t *testing.T) {
	dir, other := authority(t, "shop", Ed25519, "a", "b"), authority(t, "shop", P256, "a")
	mixed := files(dir, "a")
	mixed.Key = filepath.Join(dir, "b.key")
	foreign := files(dir, "a")
	foreign.CA = filepath.Join(other, CACert)
	for what, o := range map[string]Options{
		"do not belong together": {Files: mixed, Cluster: "shop", Node: "a"},
		"not of the authority":   {Files: foreign, Cluster: "shop", Node: "a"},
		"another node":           {Files: files(dir, "b"), Cluster: "shop", Node: "a"},
		"wanted depot/a":         {Files: files(dir, "a"), Cluster: "depot", Node: "a"},
		"no such file":           {Files: files(dir, "c"), Cluster: "shop", Node: "c"},
	} {
		if _, err := Load(o); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want %q: %v", what, err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "a.key"), 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(Options{Files: files(dir, "a"), Cluster: "shop", Node: "a"}); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("loose key: %v", err)
	}
}

func TestNames(t *testing.T) {
	uri := &x509.Certificate{DNSNames: []string{"a", "b"}}
	uri.URIs = append(uri.URIs, nodeURI("shop", "a"))
	dns := &x509.Certificate{DNSNames: []string{"a", "x.example"}}
	for _, tc := range []struct {
		c             *x509.Certificate
		cluster, node string
		ok            bool
	}{
		{uri, "shop", "a", true}, {uri, "shop", "b", false}, {uri, "depot", "a", false},
		{dns, "shop", "a", true}, {dns, "depot", "a", true}, {dns, "shop", "x.example", true}, {dns, "shop", "x", false}, {&x509.Certificate{}, "shop", "a", false},
	} {
		if err := checkName(tc.c, tc.cluster, tc.node); (err == nil) != tc.ok {
			t.Errorf("%v as %s/%s: %v", Names(tc.c), tc.cluster, tc.node, err)
		}
	}
}

// A renewed certificate is taken while the node runs, a damaged one is not and the old one stays; the end of one is said in time.
func TestReload(t *testing.T) {
	dir := authority(t, "shop", Ed25519)
	if _, err := Issue(Request{Dir: dir, Node: "a", Valid: time.Hour}); err != nil {
		t.Fatal(err)
	}
	id := load(t, dir, "a")
	now := time.Now()
	if p := id.Problem(now); !strings.Contains(p, "expires") {
		t.Errorf("an hour before the end: %q", p)
	}
	if p := id.Problem(now.Add(2 * time.Hour)); !strings.Contains(p, "expired") {
		t.Errorf("an hour after the end: %q", p)
	}
	if _, err := Renew(Request{Dir: dir, Node: "a"}); err != nil {
		t.Fatal(err)
	}
	id.look()
	if p := id.Problem(now); p != "" || id.NotAfter().Before(now.Add(NodeValid-time.Hour)) {
		t.Errorf("after the renewal: %q, ends %v", p, id.NotAfter())
	}
	end := id.NotAfter()
	if err := os.WriteFile(filepath.Join(dir, "a.crt"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	id.look()
	if p := id.Problem(now); !strings.Contains(p, "stay in force") || !id.NotAfter().Equal(end) {
		t.Errorf("after damage: %q, ends %v", p, id.NotAfter())
	}
}
