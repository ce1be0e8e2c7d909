"""The contrastive loss written out in loops, for any number of captions."""

import torch


def naive_info_nce(videos, texts, temperature, captions):
    """`videos` (N, d), `texts` (N * captions, d): the mean over videos and their captions, and over texts, halved."""
    of_videos, of_texts = [], []
    for i, video in enumerate(videos):
        similarities = torch.stack([(video * text).sum() / temperature[0] for text in texts])
        normaliser = similarities.exp().sum().log()
        terms = [normaliser - similarities[i * captions + j] for j in range(captions)]
        of_videos.append(sum(terms) / captions)
    for j, text in enumerate(texts):
        similarities = torch.stack([(video * text).sum() / temperature[0] for video in videos])
        of_texts.append(similarities.exp().sum().log() - similarities[j // captions])
    return (sum(of_videos) / len(videos) + sum(of_texts) / len(texts)) / 2
