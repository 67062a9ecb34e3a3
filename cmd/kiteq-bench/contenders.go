package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// listeningOn begins the line in which the floor says its address.
const listeningOn = "the floor listens on "

// startFloor runs this program as the floor.
func startFloor(ctx context.Context, o options) (*instance, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := command(ctx, o, self, "-mode", modeFloor, "-broker", "127.0.0.1:0", "-class", o.class, "-dir", o.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), listeningOn)
	if err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("it says %q", line), err, end(cmd))
	}
	return &instance{addr, cmd.Process.Pid, func() error { return end(cmd) }}, nil
}

// startKiteQ runs the broker with everything in o.dir, and waits until it is ready.
func startKiteQ(ctx context.Context, o options) (*instance, error) {
	addrs, err := freeAddrs(ctx, 3)
	if err != nil {
		return nil, err
	}
	bind, admin, registry := addrs[0], addrs[1], addrs[2]
	_, port, err := net.SplitHostPort(admin)
	if err != nil {
		return nil, err
	}
	sync := map[string]string{classSynced: "always", classWritten: "os"}[o.class]
	cmd := command(ctx, o, o.kiteq, "-bind="+bind, "-pport="+port, "-topics="+o.topic,
		"-zkhost=embedded://"+registry+"?data="+filepath.Join(o.dir, "registry"),
		"-db=mmap://"+filepath.Join(o.dir, "journal")+"?sync="+sync)
	log, err := os.Create(filepath.Join(o.dir, "kiteq.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := waitReady(ctx, "http://"+admin+"/readyz", o.patience); err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("%w: %s", err, text[:min(len(text), 2000)]), end(cmd))
	}
	return &instance{bind, cmd.Process.Pid, func() error { return end(cmd) }}, nil
}

// command is a process that ends with ctx, in good order when it does so within patience.
func command(ctx context.Context, o options, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = o.patience
	return cmd
}

// end stops the process and waits for it.
func end(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	kill := time.AfterFunc(cmd.WaitDelay, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	return cmd.Wait()
}

// freeAddrs returns addresses of loopback on which nobody listens now.
func freeAddrs(ctx context.Context, n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // not before all are chosen
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// waitReady asks until the answer is 200.
func waitReady(ctx context.Context, url string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(answer.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v: %w", patience, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
