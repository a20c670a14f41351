/* The load on an echo server: load PORT CONNECTIONS SIZE.

   It connects, says "ready", and for each line "SECONDS" on standard input lets every connection send
   a message of SIZE bytes, wait until all of it has come back, and send the next, for so long. Then
   it says: MESSAGES SECONDS P50 P99, the latter two being seconds from a message to its end.
*/
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct conn {
    int fd;
    size_t sent, received;
    double start; /* of the message that is under way */
};

static size_t size;
static char *message, *scratch;
static double *times; /* of each message */
static size_t count, room;
static double end;
static int under_way;

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void push(struct conn *c) {
    while (c->sent < size) {
        ssize_t n = send(c->fd, message + c->sent, size - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) return;
            die("send");
        }
        c->sent += n;
    }
}

static void begin(struct conn *c) {
    c->sent = c->received = 0;
    c->start = now();
    under_way++;
    push(c);
}

static void finished(struct conn *c) {
    double t = now();
    if (count == room) {
        room = room ? room * 2 : 1 << 16;
        times = realloc(times, room * sizeof *times);
        if (!times) die("realloc");
    }
    times[count++] = t - c->start;
    under_way--;
    if (t < end) begin(c);
}

static void pull(struct conn *c) {
    while (c->received < size) {
        ssize_t n = recv(c->fd, scratch, size - c->received, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) die("recv");
        c->received += n;
    }
    finished(c);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void connect_to(struct conn *c, int port) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&where, sizeof where) < 0) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

int main(int argc, char **argv) {
    struct epoll_event events[256];
    struct rlimit files;
    double seconds;

    if (argc != 4) return fprintf(stderr, "load PORT CONNECTIONS SIZE\n"), 2;
    int connections = atoi(argv[2]), epoll = epoll_create1(0);
    struct conn *conns = calloc(connections, sizeof *conns);
    size = atol(argv[3]);
    message = malloc(size);
    scratch = malloc(size);
    if (!conns || !message || !scratch) die("malloc");
    memset(message, 'x', size);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int i = 0; i < connections; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &conns[i]};
        connect_to(&conns[i], atoi(argv[1]));
        conns[i].sent = conns[i].received = size; /* nothing is under way */
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, conns[i].fd, &event) < 0) die("epoll_ctl");
    }
    puts("ready");
    fflush(stdout);
    while (scanf("%lf", &seconds) == 1) {
        double start = now();
        count = 0;
        end = start + seconds;
        for (int i = 0; i < connections; i++) begin(&conns[i]);
        while (under_way) {
            int n = epoll_wait(epoll, events, 256, -1);
            for (int i = 0; i < n; i++) {
                struct conn *c = events[i].data.ptr;
                if (c->sent < size) push(c);
                if (c->received < size) pull(c);
            }
        }
        double took = now() - start;
        qsort(times, count, sizeof *times, ascending);
        printf("%zu %.6f %.9f %.9f\n", count, took, times[count / 2], times[count * 99 / 100]);
        fflush(stdout);
    }
    return 0;
}
