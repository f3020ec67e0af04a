package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"repld/internal/certs"
)

// soon is how long before its end list says so.
const soon = 30 * 24 * time.Hour

func (a *app) certsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Make and look at the certificates that nodes show each other",
		Long: `Nodes talk TLS 1.3 and know each other by certificates of one authority, each of which names its node. These verbs work on files;
no node is asked. Keep ca.key away from the nodes: whoever has it can make a node. Each node needs ca.crt, NAME.crt and NAME.key.`,
		Example: `  replctl certs init shop --dir ca
  replctl certs issue a b c --dir ca
  replctl certs list --dir ca
  replctl certs renew a --dir ca      # then copy a.crt to the node: it is taken without a restart`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	dir := cmd.PersistentFlags().String("dir", ".", "folder of the authority's `files`")
	cmd.AddCommand(a.certsInitCmd(dir), a.certsIssueCmd(dir), a.certsRenewCmd(dir), a.certsListCmd(dir))
	return cmd
}

// certsFlags are what init, issue and renew share.
func certsFlags(cmd *cobra.Command, r *certs.Request, valid time.Duration, key bool) {
	cmd.Flags().DurationVar(&r.Valid, "valid", valid, "lifetime")
	if key {
		cmd.Flags().StringVar(&r.Algorithm, "key", certs.Ed25519, "kind of key: ed25519, or p256 for other software that knows no ed25519")
	}
}

func (a *app) certsInitCmd(dir *string) *cobra.Command {
	var r certs.Request
	cmd := &cobra.Command{
		Use: "init CLUSTER", Short: "Make the authority of a cluster: ca.crt and ca.key",
		Long:    "Make a certificate authority for the nodes of CLUSTER. Files that are there are not replaced. All files are 0600.",
		Example: "  replctl certs init shop --dir ca",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r.Dir, r.Cluster = *dir, args[0]
			c, err := certs.InitCA(r)
			if err != nil {
				return err
			}
			return a.made([]certRow{a.rowOf(filepath.Join(*dir, certs.CACert), c)})
		},
	}
	certsFlags(cmd, &r, certs.CAValid, true)
	return cmd
}

func (a *app) certsIssueCmd(dir *string) *cobra.Command {
	var r certs.Request
	cmd := &cobra.Command{
		Use: "issue NODE...", Short: "Make key and certificate of nodes: NODE.key and NODE.crt",
		Long:    "Make a key and a certificate for each NODE, signed by the authority in --dir. Files that are there are not replaced: see renew.",
		Example: "  replctl certs issue a b c --dir ca\n  replctl certs issue d --dir ca --valid 2160h",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.eachNode(r, *dir, args, certs.Issue) },
	}
	certsFlags(cmd, &r, certs.NodeValid, true)
	return cmd
}

func (a *app) certsRenewCmd(dir *string) *cobra.Command {
	var r certs.Request
	cmd := &cobra.Command{
		Use: "renew NODE...", Short: "Replace certificates of nodes by ones with a new lifetime, for the same keys",
		Long: `Replace NODE.crt by a certificate with a new lifetime for the key that is there. The file is replaced at once or not at all. A running node takes a
changed file within seconds, at once on SIGHUP; its sessions go on.`,
		Example: "  replctl certs renew a --dir ca",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.eachNode(r, *dir, args, certs.Renew) },
	}
	certsFlags(cmd, &r, certs.NodeValid, false)
	return cmd
}

func (a *app) eachNode(r certs.Request, dir string, nodes []string, do func(certs.Request) (*x509.Certificate, error)) error {
	var rows []certRow
	for _, node := range nodes {
		r.Dir, r.Node = dir, node
		c, err := do(r)
		if err != nil {
			return err
		}
		rows = append(rows, a.rowOf(filepath.Join(dir, node+".crt"), c))
	}
	return a.made(rows)
}

func (a *app) certsListCmd(dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "list [FILE...]", Short: "Show certificates, whom they name, and when they end",
		Long: `Show the certificates of FILEs, or all *.crt in --dir. Exit code 0: all are good for another 30 days; 3: one ends within 30 days or
has ended; 1: a file cannot be read.`,
		Example: "  replctl certs list --dir ca\n  replctl certs list /etc/repld/tls/a.crt -o json",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				found, err := filepath.Glob(filepath.Join(*dir, "*.crt"))
				if err != nil {
					return err
				}
				if len(found) == 0 {
					return fmt.Errorf("no *.crt in %s", *dir)
				}
				args = found
			}
			rows := []certRow{}
			code := exitOK
			for _, path := range args {
				all, err := certs.ReadCerts(path)
				if err != nil {
					return err
				}
				for _, c := range all {
					row := a.rowOf(path, c)
					if row.Left < soon {
						code = exitDegraded
					}
					rows = append(rows, row)
				}
			}
			if err := a.made(rows); err != nil {
				return err
			}
			return silent(code)
		},
	}
}

// certRow is one certificate as it is shown.
type certRow struct {
	File     string        `json:"file"`
	Kind     string        `json:"kind"` // authority or node
	Names    []string      `json:"names"`
	Key      string        `json:"key"`
	Serial   string        `json:"serial"`
	NotAfter time.Time     `json:"not_after"`
	Left     time.Duration `json:"left_ns"`
}

func (a *app) rowOf(path string, c *x509.Certificate) certRow {
	kind, names := "node", certs.Names(c)
	if c.IsCA {
		kind, names = "authority", []string{c.Subject.CommonName}
	}
	return certRow{File: path, Kind: kind, Names: slices.Compact(names), Key: keyName(c), Serial: fmt.Sprintf("%x", c.SerialNumber), NotAfter: c.NotAfter.UTC(), Left: c.NotAfter.Sub(a.now())}
}

func keyName(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case ed25519.PublicKey:
		return certs.Ed25519
	case *ecdsa.PublicKey:
		return strings.ToLower(k.Curve.Params().Name)
	}
	return c.PublicKeyAlgorithm.String()
}

func (a *app) made(rows []certRow) error {
	return a.emit(rows, func(w io.Writer) {
		var cells [][]string
		for _, r := range rows {
			left := fmt.Sprintf("%.0f days", r.Left.Hours()/24)
			switch {
			case r.Left <= 0:
				left = "EXPIRED"
			case r.Left < soon:
				left += ", renew"
			}
			cells = append(cells, []string{r.File, r.Kind, strings.Join(r.Names, " "), r.Key, r.NotAfter.Format(time.RFC3339), left})
		}
		table(w, []string{"FILE", "KIND", "NAMES", "KEY", "ENDS", "LEFT"}, cells)
	})
}
