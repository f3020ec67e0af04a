package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"repld/internal/config"
	"repld/internal/failpoint"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // the node stopped for a reason that it logged
	exitUsage  = 2 // the command line or the configuration is wrong
)

// app is what the verbs share.
type app struct {
	out, err io.Writer
	file     string
}

// failure is an error of a running node, as opposed to one of the command line.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// execute runs one command line and returns the exit code.
func execute(args []string, out, errOut io.Writer) int {
	root := newRoot(&app{out: out, err: errOut})
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(errOut, "repld:", err)
	var failed failure
	if errors.As(err, &failed) {
		return exitFailed
	}
	return exitUsage
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "repld --config FILE",
		Short: "A replicated state engine behind a Redis-protocol socket",
		Long: `repld is one node of a failover cluster for the state of services. Services use it through the Redis protocol; every write goes
to a log that standbys copy; replctl shows and steers the cluster.

Settings come from flags, REPLD_… environment variables, the file and defaults, in that order. Exit codes: 0 stopped as
asked, 1 the node stopped for a reason that it logged, 2 the command line or the configuration is wrong.`,
		Example: `  repld --config /etc/repld.yml
  repld --cluster dev --node a --data ./data        # a node that stands alone
  repld check-config --config /etc/repld.yml`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd) },
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().StringVar(&a.file, "config", os.Getenv("REPLD_CONFIG"), "YAML `file` with the settings (REPLD_CONFIG)")
	config.Flags(root.PersistentFlags())
	root.AddCommand(
		&cobra.Command{Use: "run", Short: "Run the node (the same as no verb)", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd) }},
		&cobra.Command{Use: "check-config", Short: "Say everything that is wrong with the settings", Args: cobra.NoArgs,
			Long: "Load the settings as a start would, say everything that is wrong at once, and start nothing. Exit code 0 or 2.",
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := a.load(cmd)
				if err != nil {
					return err
				}
				for _, w := range c.Warnings {
					fmt.Fprintln(a.err, "warning:", w)
				}
				warning, err := checkFiles(c)
				if err != nil {
					return err
				}
				if warning != "" {
					fmt.Fprintln(a.err, "warning:", warning)
				}
				fmt.Fprintf(a.out, "ok: node %s of cluster %s, %d peers\n", c.Node, c.Cluster, len(c.Others()))
				return nil
			}},
		&cobra.Command{Use: "print-config", Short: "Print the settings in force and where each came from", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := a.load(cmd)
				if err != nil {
					return err
				}
				text, err := c.Print()
				if err != nil {
					return err
				}
				_, err = a.out.Write(text)
				return err
			}},
		&cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, "repld", buildVersion())
			return err
		}},
	)
	return root
}

func (a *app) load(cmd *cobra.Command) (*config.Config, error) {
	return config.Load(config.LoadOptions{File: a.file, Flags: cmd.Flags()})
}

// version is set by the linker (see the Makefile).
var version = "devel"

// A binary with failpoints says so: it must not be mistaken for one to install.
func buildVersion() string {
	if failpoint.Enabled {
		return version + "+failpoints " + runtime.Version()
	}
	return version + " " + runtime.Version()
}
