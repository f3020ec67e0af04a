package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/spf13/pflag"

	"repld/internal/config"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "repld.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The annotated example is the documentation of the settings: it has to load, and what it shows as defaults has to be the defaults.
func TestExample(t *testing.T) {
	c, err := config.Load(config.LoadOptions{File: "../../repld.yml"})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings %q", c.Warnings)
	}
	minimal, err := config.Load(config.LoadOptions{File: write(t, `{cluster: shop, node: a, data: /var/lib/repld,
		tls: {ca: /etc/repld/tls/ca.crt, cert: /etc/repld/tls/a.crt, key: /etc/repld/tls/a.key},
		peers: [{name: a, addr: "192.0.2.11:7600"}, {name: b, addr: "192.0.2.12:7600"}, {name: c, addr: "192.0.2.13:7600", mode: lagged}]}`)})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := values(t, c), values(t, minimal); got != want {
		t.Errorf("the example does not show the defaults\nexample:\n%s\ndefaults:\n%s", got, want)
	}
	text, err := os.ReadFile("../../repld.yml")
	if err != nil {
		t.Fatal(err)
	}
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.Flags(set)
	set.VisitAll(func(f *pflag.Flag) {
		name := f.Name[strings.LastIndexByte(f.Name, '-')+1:]
		if !strings.Contains(string(text), name+":") {
			t.Errorf("the example does not mention the setting of --%s", f.Name)
		}
	})
}

// values is Print without the comments.
func values(t *testing.T, c *config.Config) string {
	t.Helper()
	text, err := c.Print()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.SplitSeq(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) != "" {
			out = append(out, strings.TrimRight(line, " "))
		}
	}
	return strings.Join(out, "\n")
}

func TestPrecedence(t *testing.T) {
	path := write(t, "cluster: shop\nnode: a\ndata: d\nlog:\n  level: warn\nwal:\n  codec: zstd\nlimits:\n  queue_bytes: 1MiB\n")
	t.Setenv("REPLD_WAL_CODEC", "none")
	t.Setenv("REPLD_LIMITS_QUEUE_BYTES", "2MiB")
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.Flags(set)
	if err := set.Parse([]string{"--limits-queue-bytes=3MiB", "--client-standby-reads"}); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.LoadOptions{File: path, Flags: set})
	if err != nil {
		t.Fatal(err)
	}
	if c.Log.Level != "warn" || c.WAL.Codec != "none" || c.Limits.QueueBytes != 3<<20 || c.Log.Format != "text" || !c.Client.StandbyReads {
		t.Fatalf("file %s, environment %s, flag %s, default %s", c.Log.Level, c.WAL.Codec, c.Limits.QueueBytes, c.Log.Format)
	}
	if c.Data != filepath.Join(filepath.Dir(path), "d") || c.Admin.Socket != c.Data+"/admin.sock" {
		t.Fatalf("paths: %s, %s", c.Data, c.Admin.Socket)
	}
	text, err := c.Print()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"level: warn # " + path + ":5", "codec: none # REPLD_WAL_CODEC", "queue_bytes: 3MiB # --limits-queue-bytes", "format: text # default"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("print has no %q:\n%s", want, text)
		}
	}
	// What is printed is itself a configuration with the same meaning.
	again, err := config.Load(config.LoadOptions{File: write(t, string(text)), Flags: set})
	if err != nil {
		t.Fatal(err)
	}
	if values(t, again) != values(t, c) {
		t.Errorf("printed settings load as\n%s\nwant\n%s", values(t, again), values(t, c))
	}
}

func TestEnvironmentOnly(t *testing.T) {
	t.Setenv("REPLD_CLUSTER", "shop")
	t.Setenv("REPLD_NODE", "b")
	t.Setenv("REPLD_DATA", "/d")
	t.Setenv("REPLD_PEERS", "a=127.0.0.1:7601, b=127.0.0.1:7602")
	t.Setenv("REPLD_INSECURE", "true")
	t.Setenv("REPLD_SYNK_K", "1")
	c, err := config.Load(config.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:7602" || len(c.Others()) != 1 || c.Others()[0].Name != "a" || c.Sync.K != 1 {
		t.Fatalf("listen %s, others %v, k %d", c.Listen, c.Others(), c.Sync.K)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "REPLD_SYNK_K") {
		t.Fatalf("warnings %q", c.Warnings)
	}
	t.Setenv("REPLD_STOP_TIMEOUT", "soon")
	var fault *config.Error
	if _, err := config.Load(config.LoadOptions{}); !errors.As(err, &fault) || fault.Problems[0].Place != "REPLD_STOP_TIMEOUT" {
		t.Fatalf("error %v", err)
	}
}

// Each transcript is a file and everything that is wrong with it.
// Faults: H4 (unknown keys and bad values)
func TestRefused(t *testing.T) {
	datadriven.RunTest(t, "testdata/refused.txt", func(t *testing.T, d *datadriven.TestData) string {
		path := write(t, d.Input)
		_, err := config.Load(config.LoadOptions{File: path})
		if err == nil {
			return "accepted\n"
		}
		return strings.ReplaceAll(err.Error(), filepath.Dir(path)+"/", "") + "\n"
	})
}

func TestPasswordFile(t *testing.T) {
	dir := t.TempDir()
	load := func() (*config.Config, error) {
		return config.Load(config.LoadOptions{File: write(t, "cluster: x\nnode: a\ndata: /d\nclient: {tcp: \"0.0.0.0:6379\", insecure: true, password_file: "+dir+"/p}")})
	}
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Fatalf("missing file: %v", err)
	}
	if err := os.WriteFile(dir+"/p", []byte("secret\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Fatalf("readable by the group: %v", err)
	}
	if err := os.Chmod(dir+"/p", 0o400); err != nil {
		t.Fatal(err)
	}
	c, err := load()
	if err != nil || c.Client.Password != "secret" {
		t.Fatalf("password %q, %v", c.Client.Password, err)
	}
	if text, _ := c.Print(); strings.Contains(string(text), "secret") || c.Redacted().Client.Password == "secret" {
		t.Fatal("the password is shown")
	}
}

// A file with users is as secret as one with a password, and lets other hosts in as well.
func TestACLFile(t *testing.T) {
	dir := t.TempDir()
	load := func() (*config.Config, error) {
		return config.Load(config.LoadOptions{File: write(t, "cluster: x\nnode: a\ndata: /d\nclient: {tcp: \"0.0.0.0:6379\", insecure: true, acl_file: "+dir+"/u}")})
	}
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Fatalf("missing file: %v", err)
	}
	if err := os.WriteFile(dir+"/u", []byte("user a on >secret +@all\n"), 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Fatalf("readable by others: %v", err)
	}
	if err := os.Chmod(dir+"/u", 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load()
	if err != nil || c.Client.ACL != "user a on >secret +@all\n" {
		t.Fatalf("%v", err)
	}
	if text, _ := c.Print(); strings.Contains(string(text), "secret") || c.Redacted().Client.ACL == c.Client.ACL {
		t.Fatal("passwords are shown")
	}
}

func TestUnreadableFile(t *testing.T) {
	if _, err := config.Load(config.LoadOptions{File: t.TempDir() + "/none.yml"}); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("error %v", err)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]config.Size{"0": 0, "17": 17, "64MiB": 64 << 20, "1 GiB": 1 << 30, "5KB": 5000, "12B": 12, "1TiB": 1 << 40} {
		got, err := config.ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", text, got, err, want)
		}
		if again, err := config.ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%s prints as %s", text, got)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "64mib", "9999999999TiB", "1e6"} {
		if got, err := config.ParseSize(text); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
}

// FuzzLoad: no file makes Load panic, and what it accepts is complete.
func FuzzLoad(f *testing.F) {
	f.Add("cluster: shop\nnode: a\ndata: /d\n")
	f.Add("a: &x [*x]\npeers: [{name: [1]}]\nsync: {k: 99999999999999999999}")
	f.Add("<<: {node: a}\n? [a]\n: b\n")
	path := filepath.Join(f.TempDir(), "f.yml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(config.LoadOptions{File: path})
		if err != nil {
			return
		}
		if c.Cluster == "" || c.Node == "" || c.Data == "" || c.Listen == "" || c.Client.Socket == "" || c.Stop.Timeout <= time.Duration(0) {
			t.Fatalf("accepted with holes: %+v", c)
		}
		if _, err := c.Print(); err != nil {
			t.Fatal(err)
		}
	})
}
