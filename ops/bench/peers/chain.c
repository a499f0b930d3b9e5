// What a round trip takes at least where an acknowledgement waits for two processes and two disks' syncs: a client, a worker and a coordinator that do nothing
// but pass on messages with libzmq and write pages with fdatasync, over the sockets that Accrue uses on one machine.
//
//     chain DIRECTORY ROUNDS        prints {"medianMs": …}
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { page = 4096, pages = 4096 };
static char bytes[page];

static void check(int is_well, const char *what) {
    if (is_well) return;
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

// A file of pages that were written before: their sync leaves the file's length alone, as in a spool or a write-ahead log in use.
static int written(const char *folder, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    check(file >= 0, path);
    for (int i = 0; i < pages; ++i) check(write(file, bytes, page) == page, path);
    check(fsync(file) == 0, path);
    return file;
}

// Answers each message after a write and a sync, and after whoever is asked next, if anybody.
static void serve(const char *folder, const char *name, const char *here, const char *next) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_ROUTER), *other = NULL;
    int file = written(folder, name);
    check(zmq_bind(socket, here) == 0, here);
    if (next) {
        other = zmq_socket(context, ZMQ_DEALER);
        check(zmq_connect(other, next) == 0, next);
    }
    for (long turn = 0;; ++turn) {
        zmq_msg_t peer, body;
        zmq_msg_init(&peer);
        zmq_msg_init(&body);
        check(zmq_msg_recv(&peer, socket, 0) >= 0 && zmq_msg_recv(&body, socket, 0) >= 0, "receiving");
        check(pwrite(file, bytes, page, turn % pages * page) == page && fdatasync(file) == 0, "writing");
        if (other) check(zmq_send(other, bytes, 300, 0) == 300 && zmq_recv(other, bytes, page, 0) >= 0, "asking");
        check(zmq_msg_send(&peer, socket, ZMQ_SNDMORE) >= 0 && zmq_send(socket, bytes, 100, 0) == 100, "answering");
        zmq_msg_close(&body);
    }
}

static int later(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments) {
    check(count == 3 && atoi(arguments[2]) > 0, "chain DIRECTORY ROUNDS");
    const char *folder = arguments[1];
    const int rounds = atoi(arguments[2]);
    char worker[1024], coordinator[1024];
    snprintf(worker, sizeof worker, "ipc://%s/chain-worker", folder);
    snprintf(coordinator, sizeof coordinator, "ipc://%s/chain-coordinator", folder);
    pid_t servers[2] = {fork(), -1};
    if (servers[0] == 0) serve(folder, "chain-log", coordinator, NULL);
    servers[1] = fork();
    if (servers[1] == 0) serve(folder, "chain-spool", worker, coordinator);
    void *socket = zmq_socket(zmq_ctx_new(), ZMQ_DEALER);
    check(zmq_connect(socket, worker) == 0, worker);
    double *times = malloc(rounds * sizeof *times);
    // The first rounds wait until everybody is there.
    for (int round = -20; round < rounds; ++round) {
        const double start = now();
        check(zmq_send(socket, bytes, page, 0) == page && zmq_recv(socket, bytes, page, 0) >= 0, "asking");
        if (round >= 0) times[round] = now() - start;
    }
    qsort(times, rounds, sizeof *times, later);
    printf("{\"medianMs\": %.4f}\n", times[rounds / 2] * 1e3);
    for (int i = 0; i < 2; ++i) kill(servers[i], SIGKILL);
    return 0;
}
