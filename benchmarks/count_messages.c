/* Counts what each rank sends to each other: preloaded, it stands before MPI's own functions.

   At the end a rank writes lines of receiver, messages and bytes to the file COUNTS.<rank>. What
   collective calls send among themselves does not pass here. */

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    MPI_Request request;
    int receiver;
    long bytes;
} Persistent;

static Persistent *persistent;
static int known, room, ranks, own;
static long (*sent)[2];

static int in_world(MPI_Comm comm, int rank)
{
    MPI_Group here, world;
    int found = MPI_UNDEFINED;
    PMPI_Comm_group(comm, &here);
    PMPI_Comm_group(MPI_COMM_WORLD, &world);
    PMPI_Group_translate_ranks(here, 1, &rank, world, &found);
    PMPI_Group_free(&here);
    PMPI_Group_free(&world);
    return found;
}

static long size_of(int count, MPI_Datatype type)
{
    int size;
    PMPI_Type_size(type, &size);
    return (long)count * size;
}

static void note(int receiver, long bytes)
{
    if (!sent) {
        PMPI_Comm_size(MPI_COMM_WORLD, &ranks);
        PMPI_Comm_rank(MPI_COMM_WORLD, &own);
        sent = calloc(ranks, sizeof *sent);
    }
    if (receiver >= 0 && receiver < ranks) {
        sent[receiver][0]++;
        sent[receiver][1] += bytes;
    }
}

static void forget(MPI_Request request)
{
    for (int i = 0; i < known; i++)
        if (persistent[i].request == request)
            persistent[i--] = persistent[--known];
}

static void started(MPI_Request request)
{
    for (int i = 0; i < known; i++)
        if (persistent[i].request == request)
            note(persistent[i].receiver, persistent[i].bytes);
}

#define SEND(name)                                                                             \
    int MPI_##name(const void *data, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm) \
    {                                                                                          \
        note(in_world(comm, to), size_of(n, type));                                            \
        return PMPI_##name(data, n, type, to, tag, comm);                                      \
    }
SEND(Send)
SEND(Ssend)
SEND(Bsend)
SEND(Rsend)

#define ISEND(name)                                                                            \
    int MPI_##name(const void *data, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm, \
                   MPI_Request *request)                                                       \
    {                                                                                          \
        note(in_world(comm, to), size_of(n, type));                                            \
        return PMPI_##name(data, n, type, to, tag, comm, request);                             \
    }
ISEND(Isend)
ISEND(Issend)
ISEND(Irsend)

int MPI_Sendrecv(const void *data, int n, MPI_Datatype type, int to, int tag, void *into, int m,
                 MPI_Datatype as, int from, int tagged, MPI_Comm comm, MPI_Status *status)
{
    note(in_world(comm, to), size_of(n, type));
    return PMPI_Sendrecv(data, n, type, to, tag, into, m, as, from, tagged, comm, status);
}

int MPI_Send_init(const void *data, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm,
                  MPI_Request *request)
{
    int code = PMPI_Send_init(data, n, type, to, tag, comm, request);
    forget(*request);
    if (known == room) {
        room = 2 * room + 16;
        persistent = realloc(persistent, room * sizeof *persistent);
    }
    persistent[known++] = (Persistent){*request, in_world(comm, to), size_of(n, type)};
    return code;
}

int MPI_Recv_init(void *data, int n, MPI_Datatype type, int from, int tag, MPI_Comm comm,
                  MPI_Request *request)
{
    int code = PMPI_Recv_init(data, n, type, from, tag, comm, request);
    forget(*request); /* its handle may have been that of a request which was freed */
    return code;
}

int MPI_Start(MPI_Request *request)
{
    started(*request);
    return PMPI_Start(request);
}

int MPI_Startall(int count, MPI_Request *requests)
{
    for (int i = 0; i < count; i++)
        started(requests[i]);
    return PMPI_Startall(count, requests);
}

int MPI_Finalize(void)
{
    const char *prefix = getenv("COUNTS");
    char path[4096];
    if (prefix && sent) {
        snprintf(path, sizeof path, "%s.%d", prefix, own);
        FILE *file = fopen(path, "w");
        for (int i = 0; file && i < ranks; i++)
            if (sent[i][0])
                fprintf(file, "%d %ld %ld\n", i, sent[i][0], sent[i][1]);
        if (file)
            fclose(file);
    }
    return PMPI_Finalize();
}
