package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"repld/internal/admin"
	"repld/internal/config"
)

// streams are the process's three.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// app is what all verbs share: the streams and the global flags.
type app struct {
	streams
	config  string
	socket  string
	format  string
	timeout time.Duration
	now     func() time.Time
	began   bool // the command line was understood
	bar     bool // the cursor stands behind a progress bar
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, s streams, args []string) int {
	a := &app{streams: s, now: time.Now}
	root := newRoot(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.began {
		err = usageError("%v", err) // cobra found fault with the command line
	}
	a.endBar()
	var coded *codeError
	if err != nil && (!errors.As(err, &coded) || coded.err != nil) {
		fmt.Fprintln(s.err, "replctl:", err)
	}
	return codeOf(err)
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "replctl",
		Short: "Operate a repld cluster",
		Long: `replctl shows and steers a repld cluster through the admin socket of one of its nodes; any node will do.

The socket is found by --socket, else REPLD_ADMIN_SOCKET, else in the node's configuration (--config or REPLD_CONFIG).

` + exitHelp,
		Example: `  replctl --config /etc/repld.yml status
  replctl promote b --plan
  replctl switchover
  replctl verify
  replctl log grep 'cart:*' --since 1h`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			a.began = true
			return errors.Join(notEmpty(cmd.Flags()), a.checkGlobals())
		},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	f := root.PersistentFlags()
	f.StringVar(&a.config, "config", os.Getenv("REPLD_CONFIG"), "configuration `file` of a node, to find its socket or data")
	f.StringVar(&a.socket, "socket", os.Getenv("REPLD_ADMIN_SOCKET"), "admin socket `path` of a node")
	f.StringVarP(&a.format, "output", "o", formatTable, "table, json or yaml")
	f.DurationVar(&a.timeout, "timeout", 0, "give up after so long; what a node has begun goes on (default: as long as the node works)")
	root.AddCommand(a.statusCmd(), a.promoteCmd(), a.demoteCmd(), a.switchoverCmd(), a.verifyCmd(), a.logCmd(), a.divergedCmd(), a.holdCmd(), a.releaseCmd(), a.salvageCmd(), a.versionCmd())
	root.AddCommand(a.certsCmd(), a.tortureCmd())
	root.AddCommand(a.eventsCmd(), a.historyCmd())
	root.AddCommand(a.pauseCmd(), a.resumeCmd())
	root.AddCommand(a.backupCmd(), a.restoreCmd(), a.checkpointsCmd(), a.reseedCmd())
	root.AddCommand(a.receiptCmd(), a.drillCmd())
	return root
}

// notEmpty refuses flags that were given without a value, as by a variable of a script that is not set: promote --before "$EFFECT" must not be an ordinary promotion then.
func notEmpty(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" && f.Name != "reason" && f.Name != "note" {
			err = usageError("--%s is empty", f.Name)
		}
	})
	return err
}

func (a *app) checkGlobals() error {
	switch a.format {
	case formatTable, formatJSON, formatYAML:
	default:
		return usageError("-o %s: want table, json or yaml", a.format)
	}
	if a.timeout < 0 {
		return usageError("--timeout %v is negative", a.timeout)
	}
	return nil
}

// client returns a client for the node that the global flags name.
func (a *app) client() (*admin.Client, error) {
	path := a.socket
	if path == "" && a.config != "" {
		c, err := config.Load(config.LoadOptions{File: a.config})
		if err != nil {
			return nil, err
		}
		path = c.Admin.Socket
	}
	if path == "" {
		return nil, usageError("which node? give --config FILE or --socket PATH, or set REPLD_ADMIN_SOCKET")
	}
	return admin.NewClient(path), nil
}

// dataDir returns the one argument or the data directory of --config.
func (a *app) dataDir(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	if a.config == "" {
		return "", usageError("which data? give DIR or --config FILE")
	}
	c, err := config.Load(config.LoadOptions{File: a.config})
	if err != nil {
		return "", err
	}
	return c.Data, nil
}

// bounded applies --timeout.
func (a *app) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, a.timeout)
}

// ask runs fn with a client and the bound of --timeout.
func (a *app) ask(ctx context.Context, fn func(ctx context.Context, c *admin.Client) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	return fn(ctx, c)
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", RunE: func(*cobra.Command, []string) error {
		fmt.Fprintln(a.out, "replctl", buildVersion())
		return nil
	}}
}

// version is set by the linker (see the Makefile).
var version = "devel"

func buildVersion() string { return version + " " + runtime.Version() }
