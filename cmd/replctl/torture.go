package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/spf13/cobra"

	"repld/internal/torture"
)

func (a *app) tortureCmd() *cobra.Command {
	var o torture.Options
	var list, verbose bool
	cmd := &cobra.Command{
		Use:   "torture DIR",
		Short: "Hurt nodes of its own below DIR, on this machine, and prove that nothing acknowledged is lost",
		Long: `Start real repld processes below DIR, which should lie on the disk that is to be proven, write to them with concurrent clients, hurt them (kill, freeze, power cuts,
partitions, bad links, failing system calls, full disks, an operator's mistakes), and check that every acknowledged write is there, that no two nodes were active at once, that every
reply fits into one history, and that the copies agree at the end. No running cluster is touched.

Some scenarios need root, a loop device, nftables or strace; where that is missing the report says "skipped" and why, and does not count the rows of the fault catalogue as covered.

Exit code: 0 nothing failed, 6 a scenario failed (its logs and data are kept below DIR), 1 or 2 the run did not work.`,
		Example: "  replctl torture /var/tmp/torture\n  sudo replctl torture /mnt/newdisk/torture --budget 10m\n  replctl torture /tmp/t --scenario kill,freeze -o json\n  replctl torture --list",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				return a.tortureList()
			}
			if len(args) == 0 {
				return usageError("torture: which folder? give DIR")
			}
			o.Dir = args[0]
			if o.Repld == "" {
				o.Repld = besideMe("repld")
			}
			if verbose {
				o.Logger = slog.New(slog.NewTextHandler(a.err, nil))
			}
			redis.SetLogger(&logging.VoidLogger{}) // clients of killed nodes have much to say
			ctx, cancel := a.bounded(cmd.Context())
			defer cancel()
			r, err := torture.Run(ctx, o)
			if err != nil {
				return err
			}
			if err := a.emit(r, r.Table); err != nil {
				return err
			}
			if !r.OK() {
				return silent(exitDifference)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.Budget, "budget", 0, "time for all scenarios together; last rounds and checks come on top (default: 2m)")
	f.StringSliceVar(&o.Scenarios, "scenario", nil, "only these, separated by commas (see --list)")
	f.StringVar(&o.Repld, "repld", "", "the repld `binary` (default: beside this one)")
	f.StringVar(&o.Failpoints, "failpoints", "", "a repld `binary` built with -tags failpoints")
	f.Uint64Var(&o.Seed, "seed", 0, "what is done when (default: from the clock)")
	f.BoolVar(&o.Keep, "keep", false, "leave the folders of scenarios that passed")
	f.BoolVar(&list, "list", false, "list the scenarios")
	f.BoolVar(&verbose, "verbose", false, "say what is done")
	return cmd
}

func (a *app) tortureList() error {
	type row struct {
		Name  string `json:"name"`
		About string `json:"about"`
		Rows  string `json:"rows"`
	}
	var rows []row
	var cells [][]string
	for _, s := range torture.About() {
		rows = append(rows, row{s[0], s[1], s[2]})
		cells = append(cells, []string{s[0], s[2], s[1]})
	}
	return a.emit(rows, func(w io.Writer) { table(w, []string{"SCENARIO", "ROWS", "WHAT IT DOES"}, cells) })
}

// besideMe is the path of another program of this installation.
func besideMe(name string) string {
	me, err := os.Executable()
	if err != nil {
		return name
	}
	path := filepath.Join(filepath.Dir(me), name)
	if _, err := os.Stat(path); err != nil {
		fmt.Fprintf(os.Stderr, "replctl: no %s beside %s\n", name, me)
	}
	return path
}
