// The servers of the benchmark on pitaya: the services that its comparison asks for, on NATS and etcd.
package main

import (
	"context"
	"flag"
	"fmt"
	stdlog "log"
	"time"

	"github.com/sirupsen/logrus"
	pitaya "github.com/topfreegames/pitaya/v3/pkg"
	"github.com/topfreegames/pitaya/v3/pkg/acceptor"
	"github.com/topfreegames/pitaya/v3/pkg/component"
	"github.com/topfreegames/pitaya/v3/pkg/config"
	"github.com/topfreegames/pitaya/v3/pkg/logger"
	logruswrapper "github.com/topfreegames/pitaya/v3/pkg/logger/logrus"
)

// The two kinds of servers; the backend's name is the first part of its routes.
const (
	gate    = "gate"
	backend = "game"
)

const group = "all"

func main() {
	role := flag.String("role", "standalone", "standalone, gate or backend")
	listen := flag.String("listen", "127.0.0.1:0", "where clients connect")
	ws := flag.Bool("ws", false, "clients speak WebSocket")
	nats := flag.String("nats", "", "where NATS is, of a cluster")
	etcd := flag.String("etcd", "", "where etcd is, of a cluster")
	flag.Parse()

	log := logrus.New()
	// Its errors include every client that leaves.
	log.SetLevel(logrus.FatalLevel)
	logger.SetLogger(logruswrapper.NewWithFieldLogger(log))

	conf := config.NewDefaultPitayaConfig()
	// Compressed bodies would not be what the client sent, and cost ten times as much.
	conf.Handler.Messages.Compression = false
	conf.Cluster.RPC.Client.Nats.Connect = "nats://" + *nats
	conf.Cluster.RPC.Server.Nats.Connect = "nats://" + *nats
	conf.Cluster.SD.Etcd.Endpoints = []string{*etcd}

	kind, mode := gate, pitaya.Cluster
	switch *role {
	case "standalone":
		mode = pitaya.Standalone
	case "gate":
	case "backend":
		kind = backend
	default:
		stdlog.Fatalf("no such role: %s", *role)
	}
	builder := pitaya.NewDefaultBuilder(kind == gate, kind, mode, map[string]string{}, *conf)
	var clients acceptor.Acceptor
	if kind == gate {
		clients = acceptor.NewTCPAcceptor(*listen)
		if *ws {
			clients = acceptor.NewWSAcceptor(*listen)
		}
		builder.AddAcceptor(clients)
	}
	app := builder.Build()
	if *role != "gate" {
		if err := app.GroupCreate(context.Background(), group); err != nil {
			stdlog.Fatal(err)
		}
		app.Register(&Echo{}, component.WithName("Echo"))
		app.Register(&Grp{app: app}, component.WithName("Grp"))
	}
	go announce(app, clients, mode == pitaya.Cluster)
	app.Start()
}

// announce prints the address of the clients once they can be served, of a backend that it is ready.
func announce(app pitaya.Pitaya, clients acceptor.Acceptor, cluster bool) {
	ready := func() bool {
		if !app.IsRunning() {
			return false
		}
		if clients == nil || !cluster {
			return true
		}
		backends, err := app.GetServersByType(backend)
		return err == nil && len(backends) > 0
	}
	for !ready() {
		time.Sleep(20 * time.Millisecond)
	}
	if clients == nil {
		fmt.Println("ready")
	} else {
		fmt.Println("listening on", clients.GetAddr())
	}
}

// Echo answers with what it was sent.
type Echo struct{ component.Base }

func (*Echo) Echo(_ context.Context, body []byte) ([]byte, error) {
	return body, nil
}

// Grp is one group of all sessions that join.
type Grp struct {
	component.Base
	app pitaya.Pitaya
}

// Join gets what the client is called: groups of pitaya are of users.
func (g *Grp) Join(ctx context.Context, body []byte) ([]byte, error) {
	user := string(body)
	if err := g.app.GetSessionFromCtx(ctx).Bind(ctx, user); err != nil {
		return nil, err
	}
	if err := g.app.GroupAddMember(ctx, group, user); err != nil {
		return nil, err
	}
	return body, nil
}

func (g *Grp) Send(ctx context.Context, body []byte) {
	if err := g.app.GroupBroadcast(ctx, gate, group, "onBroadcast", body); err != nil {
		logger.Log.Error(err)
	}
}
