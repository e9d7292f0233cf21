"""Does a run survive what befalls it on a cluster?"""
